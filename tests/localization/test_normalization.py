import numpy as np
import pytest

from defectloc.config import LocalizationConfig, Normalization
from defectloc.errors import DefectlocError
from defectloc.localization.normalization import (
    METHODS,
    Scale,
    check_threshold,
    cut_of,
    normalize,
    threshold_range,
)

MAP = np.array([[-2, -1, 0, 1, 2], [3, 4, 5, 6, 8]], dtype=np.float32)


def test_minmax_spans_zero_to_one() -> None:
    np.testing.assert_allclose(normalize(MAP, "minmax"), (MAP + 2) / 10)


def test_max_divides_by_the_maximum_and_clips_at_zero() -> None:
    np.testing.assert_allclose(normalize(MAP, "max"), np.maximum(MAP, 0) / 8)


def test_ivr_removes_the_values_below_the_percentile() -> None:
    np.testing.assert_allclose(normalize(MAP, "ivr", percentile=0.4), np.maximum(MAP - 2, 0) / 6)
    np.testing.assert_allclose(normalize(MAP, "ivr", percentile=0), normalize(MAP, "minmax"))


def test_none_keeps_the_log_odds_and_good_gives_z_scores() -> None:
    np.testing.assert_array_equal(normalize(MAP, "none"), MAP)
    good = Scale.of_good([MAP[:1], MAP[1:, :3]])
    pooled = np.concatenate([MAP[0], MAP[1, :3]])
    assert good.zero == pytest.approx(pooled.mean())
    assert good.unit == pytest.approx(pooled.std())
    np.testing.assert_allclose(normalize(MAP, "good", good), (MAP - pooled.mean()) / pooled.std(), rtol=1e-6)


@pytest.mark.parametrize("method", ["minmax", "max", "ivr"])
@pytest.mark.parametrize("value", [-3.0, 0.0])
def test_a_flat_map_becomes_zeros(method: str, value: float) -> None:
    np.testing.assert_array_equal(normalize(np.full((4, 5), value), method), np.zeros((4, 5)))


@pytest.mark.parametrize("method", ["minmax", "ivr"])
def test_a_flat_positive_map_becomes_zeros_where_its_floor_is_removed(method: str) -> None:
    np.testing.assert_array_equal(normalize(np.full((4, 5), 7.0), method), np.zeros((4, 5)))


def test_values_near_the_end_of_float32_do_not_overflow() -> None:
    np.testing.assert_allclose(normalize(np.float32([[-3e38, 3e38]]), "minmax"), [[0, 1]])


def test_good_maps_that_are_constant_give_differences() -> None:
    assert Scale.of_good([np.full((3, 3), 0.1)]) == Scale(pytest.approx(0.1), 1.0)


def test_classes_puts_good_maps_at_zero_and_defective_scores_at_one() -> None:
    # Means of the five largest values: 2, 4, 16, 80, 100.
    defective = [np.array([[0.0, *[score] * 5]]) for score in (80, 2, 100, 16, 4)]
    scale, sentence = Scale.of_classes([np.full((2, 2), -1.0), np.full((2, 2), -3.0)], defective)
    assert (scale, sentence) == (Scale(-2.0, 18.0), "")
    np.testing.assert_allclose(normalize([[-2.0, 7.0, 16.0]], "classes", scale), [[0, 0.5, 1]])


def test_without_defective_images_that_stand_out_good_ones_give_the_scale() -> None:
    good = [np.array([[-1.0, 1.0]])]
    few, noise = [MAP * 100], [-MAP - 9] * 5
    for defective, words in (([], "0 defective images,"), (few, "1 defective image,"), (noise, "hardly stand out")):
        scale, sentence = Scale.of_classes(good, defective)
        assert scale == Scale(0.0, 8.0)
        assert words in sentence
        assert "1 is 8 standard deviations" in sentence


def test_without_a_threshold_that_of_the_normalization_counts() -> None:
    for method, cut in (("classes", (0.55, 0.7)), ("good", (4, 6)), ("none", (2, None)), ("minmax", (0.8, None))):
        assert cut_of(LocalizationConfig(normalization=Normalization[method])) == cut
    given = LocalizationConfig(normalization=Normalization.good, threshold=-1.0, min_peak=0.0)
    assert cut_of(given) == (-1.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_thresholds_out_of_range_are_refused(method: str) -> None:
    low, bound = threshold_range(method)
    check_threshold(method, 0.0)
    check_threshold(method, 0.999)
    for bad in (np.nan, np.inf, -np.inf, *([1.0, -0.001] if bound == 1 else [])):
        with pytest.raises(DefectlocError, match="does not fit"):
            check_threshold(method, bad)
    assert low in (0, -np.inf)


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: normalize(MAP, "softmax"),
        lambda: threshold_range("softmax"),
        lambda: normalize(MAP, "good"),
        lambda: normalize(MAP, "classes"),
        lambda: Scale.of_classes([], [MAP] * 5),
        lambda: Scale.of_classes([[[np.inf]]], [MAP] * 5),
        lambda: Scale.of_classes([MAP], [[[np.nan]]] * 5),
        lambda: normalize(MAP, "ivr", percentile=1),
        lambda: normalize([[np.nan]], "none"),
        lambda: Scale.of_good([]),
        lambda: Scale.of_good([[[np.nan]]]),
    ):
        with pytest.raises(DefectlocError):
            call()
