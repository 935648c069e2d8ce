"""The record of a fit: the settings of one localization of it."""

import pytest

from defectloc.runs.records import settings_of

RECORD = {
    "settings": {"data": {"limit": 40, "tiles": "auto", "tile_overlap": 0.25}, "memory": {"dims": 1}},
    "image_size": [64, 160],
}
TILING = {"tile": 448, "overlap": 0.5, "side": 224}


def fused(**more):
    return {"maps": {"memory": {"version": 6, "dims": 128}, "fusion": {"head": {"steps": 300}, **more}}}


@pytest.mark.parametrize(
    ("noted", "wanted"),
    [
        ({}, {"masks": 0, "annotations": None}),
        ({"supervision": {"masks": 16, "annotations": None, "truth": "ab"}}, {"masks": 16, "annotations": None}),
    ],
)
def test_what_teaches_is_that_of_the_fusion(noted, wanted):
    found = settings_of(RECORD, fused(**noted))
    assert found["supervision"] == wanted
    assert found["memory"] == {"dims": 128}
    assert found["data"] == {"limit": 40, "tiles": "none", "tile_overlap": None}


def test_what_was_not_made_has_no_settings():
    record = RECORD | {"settings": RECORD["settings"] | {"patch_head": {"steps": 300}}}
    found = settings_of(record, {"maps": {"cam": {"version": 1}}})
    assert found["memory"] == found["patch_head"] == {}


def test_tiles_are_those_of_the_maps():
    assert settings_of(RECORD, fused(tiling=TILING))["data"] == {"limit": 40, "tiles": 448, "tile_overlap": 0.5}
