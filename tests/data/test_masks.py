"""Masks of every kind that annotation tools write mean what their authors meant."""

import cv2
import numpy as np
import pytest
from PIL import Image

from defectloc import notes
from defectloc.data.masks import read_defect_mask, read_ignore_mask, read_mask
from defectloc.errors import DefectlocError
from tests.conftest import turned_tiff

DEFECT = np.zeros((12, 16), bool)
DEFECT[2:7, 3:9] = True
VALUES = DEFECT.astype(np.uint8)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(notes, "_said", set())


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels, mode)
    image.save(path, **options)
    return path


def palette(colours, indices=VALUES):
    image = Image.fromarray(indices, "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


@pytest.mark.parametrize("value", [1, 2, 5, 100, 200, 255])
def test_grey_of_one_class(tmp_path, value):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", VALUES * np.uint8(value))), DEFECT)


def test_bits(tmp_path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", DEFECT)), DEFECT)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.tif", DEFECT)), DEFECT)


@pytest.mark.parametrize("value", [1, 255, 300, 32768, 65535])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits(tmp_path, value, suffix):
    np.testing.assert_array_equal(read_mask(save(tmp_path / f"m{suffix}", VALUES.astype(np.uint16) * value)), DEFECT)


def test_class_numbers_beside_each_other(tmp_path, capsys):
    classes = VALUES.copy()
    classes[2:7, 3:6] = 2
    np.testing.assert_array_equal(read_mask(save(tmp_path / "low.png", classes)), DEFECT)
    assert "class numbers" in capsys.readouterr().err
    # As segmentation tools spread them over the greys; half of them are dark.
    spread = np.where(classes == 2, 60, 200 * VALUES).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "spread.png", spread)), DEFECT)


@pytest.mark.parametrize("colour", [(128, 0, 0), (0, 128, 0), (0, 0, 90), (1, 1, 1), (255, 255, 255)])
def test_palette_of_any_colour(tmp_path, colour):
    palette([(0, 0, 0), colour]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), DEFECT)


def test_palette_with_several_classes_or_without_black(tmp_path):
    palette([(0, 0, 0), (128, 0, 0), (0, 128, 0)], VALUES * 2).save(tmp_path / "second.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "second.png"), DEFECT)
    palette([(255, 255, 255), (200, 30, 30)]).save(tmp_path / "white.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "white.png"), DEFECT)
    palette([(255, 255, 255), (0, 0, 0)], 1 - VALUES).save(tmp_path / "white first.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "white first.png"), DEFECT)
    palette([(0, 0, 0)] * 3, VALUES * 2).save(tmp_path / "unset.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "unset.png"), DEFECT)


@pytest.mark.parametrize("paint", [(255, 255, 255), (0, 0, 0), (200, 30, 30), (60, 0, 0)])
@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)])
def test_painted_on_a_transparent_ground(tmp_path, paint, ground):
    pixels = np.concatenate([np.where(DEFECT[..., None], paint, ground), 255 * VALUES[..., None]], 2).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", pixels)), DEFECT)


def test_transparent_around_black_and_white(tmp_path):
    alpha = np.full_like(VALUES, 255)
    alpha[:, :2] = 0
    pixels = np.dstack([255 * VALUES] * 3 + [alpha])
    pixels[:, :2, :3] = 255
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", pixels)), DEFECT)


def test_opaque_with_an_alpha_channel(tmp_path):
    pixels = np.dstack([255 * VALUES] * 3 + [np.full_like(VALUES, 255)])
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", pixels)), DEFECT)
    image = Image.merge("LA", [Image.fromarray(255 * VALUES), Image.fromarray(np.full_like(VALUES, 255))])
    image.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), DEFECT)


@pytest.mark.parametrize("colour", [(0, 255, 0), (0, 0, 255), (255, 255, 0)])
def test_colours_other_than_red(tmp_path, colour):
    np.testing.assert_array_equal(
        read_mask(save(tmp_path / "m.png", np.where(DEFECT[..., None], colour, 0).astype(np.uint8))), DEFECT
    )


def test_jpeg_is_cut_at_127_so_that_its_noise_is_no_defect(tmp_path, capsys):
    large = np.kron(VALUES * 255, np.ones((7, 7), np.uint8))
    mask = read_mask(save(tmp_path / "m.jpg", large, quality=60))
    assert np.mean(mask != (large > 0)) < 0.002
    assert "holds greys" in capsys.readouterr().err
    almost_black = np.random.default_rng(0).integers(0, 4, (40, 40)).astype(np.uint8)
    assert not read_mask(save(tmp_path / "black.jpg", almost_black)).any()


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA])
@pytest.mark.parametrize("scale", [0.5, 0.7, 2, 3.3])
def test_interpolated_masks_are_cut_at_127(tmp_path, interpolation, scale):
    large = cv2.resize(np.kron(VALUES * 255, np.ones((6, 6), np.uint8)), None, fx=scale, fy=scale,
                       interpolation=interpolation)  # fmt: skip
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", large)), large > 127)


def test_blurred_masks_are_cut_at_127(tmp_path):
    soft = cv2.GaussianBlur(np.kron(VALUES * 255, np.ones((10, 10), np.uint8)), (0, 0), 6)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", soft)), soft > 127)


def test_another_size_is_resized_by_nearest_which_is_said(tmp_path, capsys):
    pixels = np.array([[0, 255], [127, 128]], np.uint8)
    expected = np.array([[False, True], [False, True]])
    path = save(tmp_path / "mask.png", pixels)
    np.testing.assert_array_equal(read_mask(path, (2, 2)), expected)
    assert "is 2 x 2" not in capsys.readouterr().err
    np.testing.assert_array_equal(read_mask(path, (4, 6)), np.kron(expected, np.ones((2, 3), bool)))
    assert "is 2 x 2, not 4 x 6" in capsys.readouterr().err


def test_a_mask_stands_as_its_exif_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    save(tmp_path / "m.png", 255 * VALUES, exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), np.rot90(DEFECT, -1))
    np.testing.assert_array_equal(read_mask(turned_tiff(tmp_path / "m.tif", 255 * VALUES, 6)), DEFECT)


def test_a_mask_drawn_before_the_rotation_of_its_photograph_is_refused(tmp_path):
    path = save(tmp_path / "m.png", np.rot90(255 * VALUES))
    for read in (read_mask, read_defect_mask):
        with pytest.raises(DefectlocError, match=r"m\.png is 16 x 12, its photograph 12 x 16: it was probably drawn"):
            read(path, DEFECT.shape)
    # One ignore mask serves photographs of both kinds.
    assert read_ignore_mask(path, DEFECT.shape).shape == DEFECT.shape


def test_an_ignore_mask_is_compared_with_its_photograph(tmp_path, capsys):
    path = save(tmp_path / "m.png", 255 * VALUES)
    small = read_ignore_mask(path, (6, 8), DEFECT.shape)
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(small, read_mask(path, (6, 8)))
    notes._said.clear()
    capsys.readouterr()
    np.testing.assert_array_equal(read_ignore_mask(path, (6, 8), (24, 32)), small)
    assert "is 12 x 16, not 24 x 32" in capsys.readouterr().err


def test_a_mask_of_nearly_all_pixels_is_said(tmp_path, capsys):
    read_mask(save(tmp_path / "m.png", np.full((9, 9), 255, np.uint8)))
    assert "100% of its pixels" in capsys.readouterr().err


@pytest.mark.parametrize("size", [None, (5, 5)])
def test_an_empty_mask_of_a_defective_image_is_refused_by_name(tmp_path, size):
    path = save(tmp_path / "000_mask.png", np.zeros((9, 9), np.uint8))
    assert not read_mask(path, size).any()
    with pytest.raises(DefectlocError, match=r"000_mask\.png marks no pixel"):
        read_defect_mask(path, size)


def test_a_small_defect_survives_a_small_size(tmp_path):
    pixels = np.zeros((90, 90), np.uint8)
    pixels[31, 61] = 255
    found = read_defect_mask(save(tmp_path / "m.png", pixels), (9, 9))
    assert np.argwhere(found).tolist() == [[3, 6]]
    np.testing.assert_array_equal(read_defect_mask(tmp_path / "m.png", (90, 90)), pixels > 0)


def test_what_is_no_mask_is_refused(tmp_path):
    with pytest.raises(DefectlocError, match="does not exist"):
        read_mask(tmp_path / "gone.png")
    with pytest.raises(DefectlocError, match="floating-point"):
        read_mask(save(tmp_path / "m.tif", DEFECT.astype(np.float32)))
