"""One self-contained HTML page from a template: style and script inside, nothing loaded from anywhere."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
# Of the beginning of a page, which holds its key.
HEAD_BYTES = 1024


def render(template: str, key: str, script: str | None = None, **content: Any) -> str:
    """Fill a template with content, all of which is escaped; a script that is not our own is refused by browsers.

    `key` tells what the page was made from, for `key_of`; `script` is the name of a file beside the templates.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own files, that is what Markup says, are all that is not escaped.
    text = _file(script) if script else ""
    code = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    own = {"style": Markup(_file("style.css")), "script": Markup(text), "script_hash": Markup(f"sha256-{code}")}
    return environment.get_template(template).render(key=key, **own, **content)


def key_of(path: Path) -> str | None:
    """Read the key of a page that was written before; None where there is none."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    _, found, rest = head.partition('<meta name="defectloc-report" content="')
    return rest.partition('"')[0] if found else None


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
