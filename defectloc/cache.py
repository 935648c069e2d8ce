"""`python -m defectloc.cache`: what the feature store holds; prune."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from defectloc import cli
from defectloc.config import CacheSettings
from defectloc.errors import DefectlocError
from defectloc.features import eviction
from defectloc.features.eviction import Holding

MEGABYTE = 10**6
COLUMNS = ["key", "backbone", "size", "cut", "levels", "view", "dtype", "images", "megabytes", "unused_days"]


def run(settings: CacheSettings) -> pd.DataFrame:
    """List the selected keys of the store below `outputs`, and remove them where asked; returns what is left of them.

    Raises DefectlocError where no key begins with `key`.
    """
    root = Path(settings.outputs).expanduser() / ".features"
    found = _selected(root, settings)
    if settings.prune:
        before = _bytes(root)
        if settings.limit_gb is not None:
            eviction.shrink(root, settings.limit_gb * eviction.GIGABYTE)
        else:
            eviction.remove([entry for holding in found for entry in holding.entries])
        print(f"removed {(before - _bytes(root)) / MEGABYTE:.1f} MB of stored features")
        # What another process is reading is still there.
        found = _selected(root, settings, known=True)
    table = pd.DataFrame([_row(row) for row in found], columns=COLUMNS)
    _print(table, root)
    return table


def _selected(root: Path, settings: CacheSettings, known: bool = False) -> list[Holding]:
    found = eviction.holdings(root)
    if settings.key is not None:
        found = [holding for holding in found if holding.key.startswith(settings.key)]
        if not found and not known:
            raise DefectlocError(f"key={settings.key} is no key of the store {root}; 'defectloc cache' lists them.")
    days = settings.unused_days
    if days is not None:
        found = [replace(each, entries=[e for e in each.entries if eviction.unused_for(e, days)]) for each in found]
    return [holding for holding in found if holding.entries]


def _bytes(root: Path) -> int:
    return sum(entry.bytes for folder in eviction.keys(root) for entry in eviction.entries(folder))


def _row(holding: Holding) -> dict[str, object]:
    settings = holding.settings
    return {
        "key": holding.key,
        "backbone": settings.get("backbone"),
        "size": settings.get("image_size"),
        "cut": settings.get("cut"),
        "levels": " ".join(holding.levels),
        "view": settings.get("view"),
        "dtype": settings.get("dtype"),
        "images": holding.n_images,
        "megabytes": holding.bytes / MEGABYTE,
        "unused_days": (time.time() - holding.used) / 86400,
    }


def _print(table: pd.DataFrame, root: Path) -> None:
    if table.empty:
        print(f"nothing is stored in {root}, or nothing that was asked for")
        return
    shown = Table(title=f"{root}: {table['megabytes'].sum():.1f} MB", title_justify="left")
    for name in COLUMNS:
        right = name in ("size", "images", "megabytes", "unused_days")
        shown.add_column(name.replace("_", " "), justify="right" if right else "left", overflow="fold")
    for row in table.itertuples(index=False):
        values = [f"{value:.1f}" if isinstance(value, float) else str(value) for value in row]
        shown.add_row(*values)
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def main() -> None:
    """Command line."""
    cli.run_command("cache", run)


if __name__ == "__main__":
    main()
