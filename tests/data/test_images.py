"""Whatever an image file holds, it comes out as upright 8-bit RGB, or not at all."""

import contextlib
import struct

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from defectloc import notes
from defectloc.data.images import find_images, image_size, read_image, rgb_of_array
from defectloc.data.masks import read_mask
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from tests.conftest import turned_tiff, write_image

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (5, 7), dtype=np.uint8)
# Modes of Pillow.
TIFFS = [
    ("L", "u1", ()),
    ("I;16", "<u2", ()),
    ("I;16B", ">u2", ()),
    ("RGB", "u1", (3,)),
    ("RGBA", "u1", (4,)),
    ("CMYK", "u1", (4,)),
]
DEEP = np.array([[0, 128, 129, 257, 384], [385, 511, 32767, 65407, 65535]], np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_colour(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(RGB).save(path)
    assert read_image(path).dtype == np.uint8
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_becomes_three_equal_channels(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}"), np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_divided_by_257_and_rounded(tmp_path, suffix):
    Image.fromarray(DEEP).save(tmp_path / f"image{suffix}")
    expected = np.round(DEEP / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}"), np.repeat(expected[..., None], 3, 2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour(tmp_path, suffix):
    """Pillow takes the upper byte, which is the rounded value or one beside it."""
    deep = np.random.default_rng(1).integers(0, 65536, (6, 4, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"image{suffix}"), deep[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    found = read_image(tmp_path / f"image{suffix}")
    assert np.abs(found - np.round(deep / 257)).max() <= 1


def test_palette_is_looked_up_and_transparency_is_white(tmp_path):
    indices = np.array([[0, 1], [2, 0]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "transparent.png", transparency=1)
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)[indices]
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), expected)
    expected[0, 1] = 255
    np.testing.assert_array_equal(read_image(tmp_path / "transparent.png"), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(tmp_path, mode):
    alpha = np.array([[0, 128, 255]], np.uint8)
    colour = np.array([[100, 100, 100]], np.uint8)
    bands = [colour] * (3 if mode == "RGBA" else 1) + [alpha]
    Image.merge(mode, [Image.fromarray(band) for band in bands]).save(tmp_path / "image.png")
    found = read_image(tmp_path / "image.png")[0].astype(int)
    assert (found[0] == 255).all()
    assert np.abs(found[1] - (100 * 128 + 255 * 127) / 255).max() <= 1
    assert (found[2] == 100).all()


def test_one_bit_and_cmyk(tmp_path):
    Image.fromarray(GREY > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 0], np.where(GREY > 127, 255, 0))
    Image.new("CMYK", (4, 3), (0, 0, 0, 255)).save(tmp_path / "print.jpg")
    assert read_image(tmp_path / "print.jpg").shape == (3, 4, 3)
    assert read_image(tmp_path / "print.jpg").max() < 30


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_image_stands_as_its_exif_orientation_says(tmp_path, suffix, orientation):
    """Also its size is told so without decoding it; orientations outside 1 to 8 mean nothing."""
    path = tmp_path / f"image{suffix}"
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    picture.save(path, exif=exif, **({"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}))
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    turned = orientation in (5, 6, 7, 8)
    assert expected.shape == ((56, 40, 3) if turned else (40, 56, 3))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "dtype", "bands"), TIFFS)
def test_uncompressed_tiffs_stand_as_their_orientation_says(tmp_path, mode, dtype, bands, orientation):
    """Pillow would map their pixels into memory, with sides that it has swapped already."""
    pixels = np.random.default_rng(2).integers(0, np.iinfo(dtype).max + 1, (5, 7, *bands)).astype(dtype)
    expected = read_image(turned_tiff(tmp_path / "upright.tif", pixels, 1, mode))
    path = turned_tiff(tmp_path / "turned.tif", pixels, orientation, mode)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == (5, 7)
    if not bands:
        np.testing.assert_array_equal(expected[..., 0], pixels if mode == "L" else np.round(pixels / 257))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_image_cut_short_is_refused(tmp_path, suffix, share):
    path = write_image(tmp_path / f"image{suffix}", seed=0)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DefectlocError, match=str(path)):
        read_image(path)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "note.png").write_text("buy milk")
    with pytest.raises(DefectlocError, match="not an image"):
        read_image(tmp_path / "note.png")
    with pytest.raises(DefectlocError, match="not an image"):
        image_size(tmp_path / "note.png")
    with pytest.raises(DefectlocError, match="does not exist"):
        read_image(tmp_path / "gone.png")
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DefectlocError, match="floating-point"):
        read_image(tmp_path / "float.tif")
    Image.fromarray(np.full((3, 3), 70000, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(DefectlocError, match=r"outside 0\.\.65535"):
        read_image(tmp_path / "deep.tif")


def test_images_are_found_by_name_at_any_depth(tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/.hidden.png", "a/d.txt", "a/e.tiff", "._b.png"):
        write_image((tmp_path / name).with_suffix(".png")).rename(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)] == ["a/c.jpeg", "a/e.tiff", "b.PNG"]


@pytest.mark.parametrize("name", [".ipynb_checkpoints/a.png", "a/.Trash/b.png", ".png"])
def test_hidden_files_and_folders_are_no_images(tmp_path, name):
    write_image(tmp_path / "a" / "seen.png")
    write_image(tmp_path / "photo.png").rename(make_parent(tmp_path / name))
    assert [path.name for path in find_images(tmp_path)] == ["seen.png"]


def make_parent(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    write_image(tmp_path / "elsewhere" / "deep" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "good").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "dead").symlink_to(tmp_path / "nowhere")
    (tmp_path / "set" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    assert find_images(tmp_path / "set") == [tmp_path / "set" / "good" / "deep" / "a.png"]
    assert find_images(tmp_path / "nowhere") == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_animation_or_a_stack_of_pages_is_refused(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(255 - RGB)])
    with pytest.raises(DefectlocError, match="several pictures"):
        read_image(path)


def test_a_preview_in_a_tiff_and_the_second_picture_of_a_telephone_are_passed_over(tmp_path):
    large, small = Image.fromarray(np.kron(RGB, np.ones((4, 4, 1), np.uint8))), Image.fromarray(RGB)
    large.save(tmp_path / "preview.tif", save_all=True, append_images=[small])
    np.testing.assert_array_equal(read_image(tmp_path / "preview.tif"), np.asarray(large))
    large.save(tmp_path / "stereo.jpg", format="MPO", save_all=True, append_images=[large.rotate(180)], quality=95)
    assert np.abs(read_image(tmp_path / "stereo.jpg").astype(int) - np.asarray(large)).mean() < 20


def test_16_bits_in_which_white_is_zero(tmp_path):
    """Pillow turns such a TIFF round for 8 bits only."""
    path = tmp_path / "negative.tif"
    Image.fromarray(DEEP).save(path)
    content = bytearray(path.read_bytes())
    content[content.find(struct.pack("<HHI", 262, 3, 1)) + 8] = 0
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path)[..., 0], np.round((65535 - DEEP.astype(float)) / 257))


def test_12_bits_in_16_are_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    Image.fromarray(np.minimum(DEEP, 4095)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png").max() == 16
    assert "17 grey levels" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2000)])
def test_one_pixel_and_a_strip(tmp_path, mode, size):
    Image.new(mode, size).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png").shape == (size[1], size[0], 3)
    assert image_size(tmp_path / "image.png") == (size[1], size[0])
    assert torch.isfinite(resize(read_image(tmp_path / "image.png"), 32)).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_flipped_bits_never_end_in_another_error(tmp_path, suffix):
    path = write_image(tmp_path / f"image{suffix}", seed=1)
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(content), 600), 3):
            content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        for read in (read_image, image_size, read_mask):
            with contextlib.suppress(DefectlocError):
                read(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_become_what_files_are_read_as(tmp_path, dtype):
    grey = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (5, 7), dtype=dtype)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    expected = read_image(tmp_path / "grey.png")
    np.testing.assert_array_equal(rgb_of_array(grey), expected)
    np.testing.assert_array_equal(rgb_of_array(np.asfortranarray(grey)[:, ::-1]), expected[:, ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_arrays_become_what_files_are_read_as(tmp_path, dtype, suffix):
    colours = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (50, 70, 3), dtype=dtype)
    cv2.imwrite(str(tmp_path / f"rgb{suffix}"), colours[..., ::-1])
    np.testing.assert_array_equal(rgb_of_array(colours), read_image(tmp_path / f"rgb{suffix}"))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 1), (4, 4, 4), (0, 4), (4, 0, 3), (1, 4, 4, 3)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(DefectlocError, match="give an array"):
        rgb_of_array(np.zeros(shape, np.uint8))
