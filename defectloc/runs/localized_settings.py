"""The settings of one localization of a run: those of the fit, and those that it was made with itself."""

from collections.abc import Mapping
from typing import Any

from defectloc.runs.products import TILING

# Settings in the record of a run that are those of the localization which it was made for first.
LATER = ("memory", "patch_head", "supervision", "localization", "decision")
LATER_OF_DATA = ("masks", "ignore_mask", "annotations", "tiles", "tile_overlap")


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
