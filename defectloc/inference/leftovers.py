"""What `predict` has written into an output before, as its record there says, and how it goes with a new result."""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectloc.data.images import OVERLAYS, PREDICTED
from defectloc.errors import DefectlocError
from defectloc.files import read_json
from defectloc.inference.coco import IMAGES, RESULTS
from defectloc.inference.journal import records
from defectloc.inference.overlays import overlay_name

CSV_TABLE, JSON_TABLE, BOXES = "predictions.csv", "predictions.jsonl", "boxes.csv"
TABLES = (CSV_TABLE, JSON_TABLE)
# A record that was changed by hand must not lead to other files.
KNOWN = (*TABLES, BOXES, RESULTS, IMAGES)


def partial_path(path: Path) -> Path:
    """Name a file while it is not finished."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


@dataclass(frozen=True)
class Written:
    """The files of an output that are `predict`'s own, whichever of them are there.

    The images of the tables `painted` have overlays; where it `paints`, those of the unfinished table as well.
    """

    files: tuple[str, ...] = ()
    painted: tuple[str, ...] = ()
    paints: bool = False

    @classmethod
    def read(cls, output: Path) -> "Written":
        """Read the record of an output; nothing is its own where there is none."""
        found = read_json(output / PREDICTED) or {}
        files, painted = ([name for name in KNOWN if name in _listed(found.get(key))] for key in ("files", "painted"))
        return cls(tuple(files), tuple(name for name in painted if name in TABLES), found.get("overlays") is True)

    def drop_unfinished(self, output: Path) -> None:
        """Remove an unfinished result and its overlays."""
        partial = [partial_path(output / name) for name in self.files]
        if self.paints:
            remove_overlays(output, (partial_path(output / name) for name in self.files if name in TABLES))
        for path in partial:
            path.unlink(missing_ok=True)


def refuse_another(output: Path, identity: dict[str, Any], is_other: bool) -> None:
    """Raise DefectlocError where the record of an output tells of other predictions; `is_other`: of another format."""
    found = read_json(output / PREDICTED)
    if found is None:
        what = f"that no {PREDICTED} describes"
    else:
        other = [key for key in identity if found.get(key) != identity[key]]
        words = {
            "run": "of another run or another of its settings",
            "images": "of other images",
            "format": "in another format",
            "overlays": "without overlays" if identity.get("overlays") else "with overlays",
        }
        what = " and ".join(words[key] for key in other or (["format"] if is_other else []))
    if what:
        raise DefectlocError(
            f"output={output} holds predictions {what}; choose another output, or resume=false to replace them."
        )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def remove_overlays(output: Path, tables: Iterable[Path], is_kept: Callable[[str], bool] = lambda name: False) -> None:
    """Remove the overlays of the images in tables but for those that are kept by name, and the folders left empty."""
    folder = output / OVERLAYS
    for name in itertools.chain.from_iterable(map(_names_in, tables)):
        path = folder / overlay_name(name)
        if is_kept(name) or not path.is_file():
            continue
        path.unlink()
        with contextlib.suppress(OSError):
            for above in itertools.takewhile(lambda each: each.is_relative_to(folder), path.parents):
                above.rmdir()


def _names_in(table: Path) -> Iterator[str]:
    """Give the names of the images in a table, which may not be there, up to what cannot be read."""
    is_csv = table.suffix == ".csv"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, csv.Error):
        for number, (text, _) in enumerate(records(table, quoted=is_csv)):
            if not is_csv:
                yield str(json.loads(text)["path"])
            elif number:
                yield next(csv.reader(io.StringIO(text, newline="")))[0]
