"""The record of a fit, `run.json`: written, read, and found below `outputs`, and the settings that it holds."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defectloc.files import are_as_written, read_json, sealed, write_json
from defectloc.runs.directory import CHECKPOINT, FORMAT, RECORD
from defectloc.runs.products import TILING
from defectloc.runs.tables import HISTORY

# Settings in the record of a run that are those of the localization which it was made for first.
LATER = ("memory", "patch_head", "supervision", "localization", "decision")
LATER_OF_DATA = ("masks", "ignore_mask", "annotations", "tiles", "tile_overlap")


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


def settings_of(record: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings by section, from the record of the run and the content of the localization's `config.yaml`.

    `image_size` is the network's input, which follows from `data.image_size` and the photographs.
    `supervision.annotations` is a digest of what is drawn, since the file may have another name or place by now.
    """
    fit = {key: value for key, value in record["settings"].items() if key not in LATER}
    maps = content.get("maps") or {}
    tiling = next((each[TILING] for each in maps.values() if TILING in each), {"tile": "none", "overlap": None})
    data = {key: value for key, value in fit["data"].items() if key not in LATER_OF_DATA}
    fit |= {"data": data | {"tiles": tiling["tile"], "tile_overlap": tiling["overlap"]}}
    bank, fusion = maps.get("memory") or {}, maps.get("fusion") or {}
    noted = fusion.get("supervision") or {}
    return {
        **fit,
        "image_size": record["image_size"],
        **{key: value for key, value in content.items() if key != "maps"},
        "memory": {key: value for key, value in bank.items() if key not in ("version", TILING)},
        "patch_head": {"steps": fusion["head"]["steps"]} if fusion else {},
        "supervision": {"masks": noted.get("masks", 0), "annotations": noted.get("annotations")},
    }
