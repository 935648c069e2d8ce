"""Samples from anybody's maps."""

import numpy as np
import pytest
from PIL import Image

from defectloc.config import LocalizationConfig
from defectloc.errors import DefectlocError
from defectloc.evaluation.map_samples import samples_of_maps
from defectloc.evaluation.truth_files import Truth
from tests.handmade import square

RAW = LocalizationConfig(normalization="none", threshold=0.5, boxes="components")


def write_mask(path, mask):
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)
    return path


def samples_of(config, ignore=None, **pairs):
    maps = {name: lambda values=values: values.astype(np.float32) for name, (values, _) in pairs.items()}
    truths = {name: truth for name, (_, truth) in pairs.items()}
    return {sample.name: sample for sample in samples_of_maps(maps, truths, config, ignore)}


def test_a_sample_has_boxes_and_the_regions_that_they_were_made_from(tmp_path) -> None:
    mask = square(1, 1, 4, 4)
    truth = Truth(mask=write_mask(tmp_path / "a_mask.png", mask), size=(10, 10))
    found = samples_of(RAW, a=(mask, truth), good=(square(5, 5, 6, 6), Truth()))
    assert found["a"].boxes[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [[1, 1, 4, 4]]
    np.testing.assert_array_equal(found["a"].regions, mask)
    np.testing.assert_array_equal(found["a"].mask, mask)
    assert not found["good"].mask.any()
    assert len(found["good"].boxes) == 1


@pytest.mark.parametrize("truth", [Truth(), Truth(boxes=np.zeros((0, 4)), size=(10, 10))])
def test_a_good_image_has_no_boxes_under_a_normalisation_per_image(truth: Truth) -> None:
    config = LocalizationConfig(normalization="minmax", threshold=0.8)
    assert samples_of(config, good=(square(5, 5, 6, 6), truth))["good"].boxes is None


def test_good_images_take_the_size_that_all_masks_have(tmp_path, capsys) -> None:
    truth = Truth(mask=write_mask(tmp_path / "a_mask.png", square(1, 1, 4, 4)), size=(10, 10))
    found = samples_of(RAW, a=(np.zeros((5, 5)), truth), good=(np.zeros((5, 5)), Truth()))
    assert found["a"].map.shape == found["good"].map.shape == found["good"].mask.shape == (10, 10)
    assert samples_of(RAW, good=(np.zeros((5, 4)), Truth()))["good"].map.shape == (5, 4)


def test_a_map_whose_truth_has_its_sides_exchanged_is_refused(tmp_path) -> None:
    for truth in (
        Truth(mask=write_mask(tmp_path / "a_mask.png", np.eye(8, 10)), size=(8, 10)),
        Truth(boxes=np.array([[1.0, 1, 4, 4]]), size=(8, 10)),
    ):
        with pytest.raises(DefectlocError, match="the map a is 10 x 8, its truth 8 x 10"):
            samples_of(RAW, a=(np.zeros((10, 8)), truth))
    assert samples_of(RAW, a=(np.zeros((5, 4)), truth))["a"].map.shape == (8, 10)


def test_nothing_is_found_where_nothing_counts(tmp_path) -> None:
    strip = write_mask(tmp_path / "strip.png", square(8, 0, 10, 10))
    found = samples_of(RAW, strip, good=(square(8, 0, 10, 10), Truth()))
    assert len(found["good"].boxes) == 0
    assert found["good"].ignored.sum() == 20
