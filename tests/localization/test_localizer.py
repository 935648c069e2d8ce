import functools
import json
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from defectloc.config import LocalizationConfig
from defectloc.errors import DefectlocError
from defectloc.localization import localizer, map_thresholds
from defectloc.localization.boxes import COLUMNS, find_boxes
from defectloc.localization.localizer import Localizer, ValidationMap
from defectloc.localization.normalization import Scale, normalize
from defectloc.localization.pixel_counts import PixelCounts

GOOD = np.float32([[0, 1, 2, 3], [1, 1, 1, 0]])
DEFECTIVE = np.float32([[0, 1, 9, 8], [1, 4, 1, 7]])
MASK = DEFECTIVE > 5
CELLS = [DEFECTIVE] * 5


def config(**changes: Any) -> LocalizationConfig:
    values: dict[str, Any] = {
        "map": "cam",
        "normalization": "none",
        "threshold_from": "fixed",
        "threshold": 2.5,
        "quantile": 0.5,
        "use_masks": False,
        "boxes": "components",
        "min_area": 0,
        "min_peak": None,
        "max_boxes": None,
        "merge_distance": 0.0,
    }
    return LocalizationConfig(**values | changes)


def validation() -> Iterator[ValidationMap]:
    yield ValidationMap(GOOD, 0)
    yield ValidationMap(DEFECTIVE, 1, MASK)
    # A defective image whose mask is not known.
    yield ValidationMap(DEFECTIVE - 2, 1)


def test_fixed_needs_no_validation_map() -> None:
    fitted = Localizer.fit(config())
    assert fitted.threshold == 2.5
    assert fitted.messages == []
    boxes = fitted.boxes(DEFECTIVE)
    pd.testing.assert_frame_equal(boxes, find_boxes(DEFECTIVE, 2.5))
    assert list(boxes.columns) == COLUMNS


def test_how_boxes_are_made_follows_the_configuration() -> None:
    asked = {"boxes": "single", "min_area": 1, "min_peak": 5.0, "max_boxes": 1, "merge_distance": 2.0}
    expected = find_boxes(DEFECTIVE, 2.5, "single", min_area=1, min_peak=5.0, max_boxes=1, merge_distance=2.0)
    pd.testing.assert_frame_equal(Localizer.fit(config(**asked)).boxes(DEFECTIVE), expected)
    one_pixel = np.float32([[9, 0, 0], [0, 0, 0], [3, 3, 3]])
    assert len(Localizer.fit(config()).boxes(one_pixel)) == 2
    for change in ({"min_area": 2}, {"min_peak": 5.0}, {"max_boxes": 1}, {"merge_distance": 2.0}, {"boxes": "single"}):
        assert len(Localizer.fit(config(**change)).boxes(one_pixel)) == 1


def test_good_quantile_takes_good_images_only() -> None:
    assert Localizer.fit(config(threshold_from="good_quantile"), validation).threshold == 1
    assert Localizer.fit(config(threshold_from="good_quantile", quantile=1.0), validation).threshold == 3


def test_validation_without_masks_cuts_between_the_maxima() -> None:
    assert Localizer.fit(config(threshold_from="validation"), validation).threshold == 5


def test_validation_with_masks_leaves_out_images_whose_mask_is_not_known() -> None:
    asked = config(threshold_from="validation", use_masks=True)
    fitted = Localizer.fit(asked, validation)
    # Between 4, the highest normal pixel, and 7, the lowest defect pixel.
    assert fitted.threshold == 5.5
    assert "1.000" in fitted.threshold_from
    assert Localizer.fit(asked, lambda: [ValidationMap(DEFECTIVE, 1, MASK)]).threshold == 5.5


def test_ignored_pixels_take_no_part() -> None:
    ignored = DEFECTIVE == 9
    asked = config(threshold_from="validation", use_masks=True)
    marked = [ValidationMap(DEFECTIVE, 1, DEFECTIVE == 8, ignored)]
    assert Localizer.fit(asked, lambda: marked).threshold == 7.5


@pytest.mark.parametrize(
    "asked",
    [
        {"threshold_from": "good_quantile"},
        {"threshold_from": "validation"},
        {"threshold_from": "validation", "use_masks": True},
    ],
)
def test_validation_maps_are_held_one_at_a_time(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_thresholds, "PixelCounts", functools.partial(PixelCounts, exact_pixels=0))
    made: list[weakref.ref] = []

    def watched(*arguments: Any) -> np.ndarray:
        result = normalize(*arguments)
        made.append(weakref.ref(result))
        assert sum(each() is not None for each in made) <= 3
        return result

    monkeypatch.setattr(localizer, "normalize", watched)
    images = [ValidationMap(GOOD + seed, seed % 2, MASK & (seed % 2 == 1)) for seed in range(12)]
    Localizer.fit(config(**asked), lambda: images)
    assert len(made) == 12


def test_maps_are_normalised_before_a_threshold_is_chosen() -> None:
    cells = [np.array([[0.0, 2]]), np.array([[0.0, 2, 0, 2]])]
    fitted = Localizer.fit(
        config(normalization="good", threshold_from="good_quantile"), validation, lambda label: cells
    )
    assert fitted.scale == Scale(1.0, 1.0)
    assert fitted.threshold == 0
    np.testing.assert_array_equal(fitted.normalized(DEFECTIVE), DEFECTIVE - 1)
    with pytest.raises(DefectlocError, match="good validation images"):
        Localizer.fit(config(normalization="good"), validation)


@pytest.mark.parametrize("method", ["minmax", "max", "ivr", "none", "good", "classes"])
def test_normalised_as_the_function_does(method: str) -> None:
    fitted = Localizer.fit(config(normalization=method, threshold=0.5), cells=lambda label: [[GOOD], CELLS][label])
    np.testing.assert_array_equal(fitted.normalized(DEFECTIVE), normalize(DEFECTIVE, method, fitted.scale))
    assert fitted.per_image == (method in ("minmax", "max", "ivr"))
    # The map of a good image reaches the threshold as well as that of a defective one.
    assert not fitted.per_image or len(fitted.boxes(GOOD * 1e-6))


def test_without_a_scale_of_classes_a_usual_one_is_used_and_said() -> None:
    fitted = Localizer.fit(config(normalization="classes"), cells=lambda label: [[GOOD], CELLS[:2]][label])
    assert fitted.scale == Scale(GOOD.mean(), 8 * GOOD.std())
    assert fitted.messages == [
        "The validation split has 2 defective images, and 5 are needed to scale the map by; on the map's scale 1 is 8 "
        "standard deviations of good validation maps above their mean."
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"threshold_from": "good_quantile"},
        {"threshold_from": "validation"},
        {"threshold_from": "validation", "use_masks": True},
    ],
)
def test_without_validation_images_the_configured_threshold_is_used_and_said(asked: dict[str, Any]) -> None:
    fitted = Localizer.fit(config(**asked))
    assert fitted.threshold == 2.5
    assert fitted.messages[0].endswith("; localization.threshold=2.5 is used instead.")


def test_json_brings_back_the_same_localizer() -> None:
    for asked in (
        {},
        {"normalization": "good", "min_peak": 5.0, "max_boxes": 3},
        {"normalization": "classes"},
        {"threshold_from": "validation"},
    ):
        fitted = Localizer.fit(config(**asked), validation, lambda label: [[GOOD], CELLS][label])
        again = Localizer.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
        assert again == fitted
        pd.testing.assert_frame_equal(again.boxes(DEFECTIVE), fitted.boxes(DEFECTIVE))


@pytest.mark.parametrize("content", [{}, [], {"scale": {}}, {"scale": None, "unknown": 1}])
def test_json_of_something_else_is_refused(content: Any) -> None:
    with pytest.raises(DefectlocError, match="no localizer"):
        Localizer.from_json(content)
