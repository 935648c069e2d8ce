"""The settings of one localization of a run: those of the fit, and those that it was made with itself."""

from collections.abc import Mapping
from typing import Any

# Settings in the record of a run that are those of the localization which it was made for first.
LATER = ("memory", "patch_head", "supervision", "localization", "decision")
LATER_OF_DATA = ("masks", "ignore_mask", "annotations")


def settings_of(record: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings by section, from the record of the run and the content of the localization's `config.yaml`.

    `supervision.annotations` is a digest of what is drawn, since the file may have another name or place by now.
    """
    given = record["settings"]
    fit = {key: value for key, value in given.items() if key not in LATER}
    fit |= {"data": {key: value for key, value in fit["data"].items() if key not in LATER_OF_DATA}}
    maps = content.get("maps") or {}
    bank, fusion = maps.get("memory") or {}, maps.get("fusion") or {}
    taught = fusion.get("supervision") or {}
    return {
        **fit,
        **{key: value for key, value in content.items() if key != "maps"},
        "memory": {key: value for key, value in bank.items() if key != "version"},
        "patch_head": {"steps": fusion["head"]["steps"]} if fusion else given.get("patch_head", {}),
        "supervision": {"masks": taught.get("masks", 0), "annotations": taught.get("annotations")},
    }
