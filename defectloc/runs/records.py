"""The record of a fit, `run.json`: written, read, and found below `outputs`."""

import sys
from pathlib import Path
from typing import Any

from defectloc.files import are_as_written, read_json, sealed, write_json
from defectloc.runs.directory import CHECKPOINT, FORMAT, RECORD
from defectloc.runs.tables import HISTORY


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read a run's record; None where it is missing, unreadable or of another format, so that it is made again."""
    record = read_json(folder / RECORD)
    return record if record is not None and record.get("format") == FORMAT else None


def is_fitted(folder: Path) -> bool:
    """Tell whether a fit has ended and its network is unchanged; otherwise it is made again."""
    record = read_record(folder)
    if record is None:
        return False
    files = record.get("files", {})
    return are_as_written(folder, {name: files.get(name, "") for name in (CHECKPOINT, HISTORY)})


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a run's record, so that a later change of it is noticed."""
    write_json(folder / RECORD, sealed(record))


def note_root(folder: Path, root: Path) -> None:
    """Update a run's record where its data set was moved; with other images it would be another run."""
    record = read_record(folder)
    if record is not None and record["root"] != str(root):
        write_record(folder, record | {"root": str(root)})


def runs_below(folder: Path, pattern: str) -> list[Path]:
    """List the folders of finished fits that match a pattern, such as `fold*-*`.

    A folder that is not the one its record names, such as a backup copy, is named and left out: its run would count
    twice.
    """
    found = []
    for path in sorted(each.parent for each in folder.glob(f"{pattern}/{RECORD}")):
        # What cannot be read is named by those who open it.
        if (record := read_record(path)) is not None:
            own = (str(record.get("subset")), f"fold{record.get('fold')}-{record.get('fingerprint')}")
            if path.parts[-2:] != own:
                print(f"skipped: {path} (a copy of {'/'.join(own)}, or renamed)", file=sys.stderr)
                continue
        found.append(path)
    return found
