"""The script that goes with an exported model: the same boxes and the same images without our packages."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defectloc.data.images import read_image
from defectloc.deployment import run_model
from defectloc.errors import DefectlocError
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid, upsample
from defectloc.localization.normalization import METHODS, PER_IMAGE, Scale, normalize
from tests.conftest import turned_tiff


def blobs(seed: int, size: tuple[int, int] = (40, 33)) -> np.ndarray:
    """Smooth noise, so that there are regions, and specks."""
    random = np.random.default_rng(seed)
    smooth = upsample(random.normal(0, 3, (6, 5)).astype(np.float32), size, 64, Grid(11, 5))
    return (smooth + random.normal(0, 0.6, size)).astype(np.float32)


@pytest.mark.parametrize("mode", ["single", "components"])
@pytest.mark.parametrize("method", METHODS)
def test_boxes_are_those_of_the_localizer(method, mode):
    n_boxes = set()
    for seed in range(12):
        random = np.random.default_rng(seed)
        localizer = Localizer(
            method,
            float(random.uniform(0.2, 0.7) if method in PER_IMAGE else random.uniform(-1, 3)),
            "",
            mode,
            min_area=int(random.integers(0, 8)),
            min_peak=[None, 0.8, 4.0][seed % 3],
            max_boxes=[None, 3][seed % 2],
            merge_distance=float([0, 1, 6][seed // 4]),
            scale=Scale(0.3, 1.7),
        )
        values, rules = blobs(seed), localizer.to_json()
        found = run_model.find_boxes(run_model.normalized(values, method, rules["scale"]), rules)
        wanted = localizer.boxes(values)
        table = np.array([[box[name] for name in COLUMNS] for box in found]).reshape(-1, len(COLUMNS))
        np.testing.assert_allclose(table, wanted[COLUMNS].to_numpy(float), rtol=1e-9)
        n_boxes.add(len(found))
    assert max(n_boxes) > (mode == "components")


def test_regions_that_meet_late_and_at_corners_are_one():
    rows = ["#.#.#..#", "#.#.#.#.", ".#.#...#", "........", "###..###", "..####.."]
    mask = np.array([[each == "#" for each in row] for row in rows])
    localizer = Localizer("none", 0.5, "", "components")
    found = run_model.find_boxes(mask.astype(np.float32), localizer.to_json())
    assert [[box[name] for name in COLUMNS[:4]] for box in found] == [[0, 0, 5, 3], [6, 0, 8, 3], [0, 4, 8, 6]]


def test_nothing_above_the_threshold_and_a_flat_map():
    rules = Localizer("minmax", 0.8, "", "components").to_json()
    flat = np.full((4, 5), 3.0, np.float32)
    assert run_model.find_boxes(run_model.normalized(flat, "minmax", None), rules) == []
    np.testing.assert_array_equal(run_model.normalized(flat, "minmax", None), normalize(flat, "minmax"))


def test_maps_are_upsampled_as_elsewhere():
    cells = np.random.default_rng(0).normal(0, 5, (4, 5)).astype(np.float32)
    about = {"image_size": [64, 96], "cells": [4, 5], "grid": {"stride": 16.0, "offset": 7.5}}
    for size in ((64, 64), (300, 41), (1, 3)):
        found = run_model.native_map(about, cells, size, None)
        np.testing.assert_allclose(found, upsample(cells, size, (64, 96), Grid(16, 7.5)), atol=1e-6)
        # In tiles the network sees what the cells cover.
        found = run_model.native_map(about | {"cells": None}, cells, size, None)
        np.testing.assert_allclose(found, upsample(cells, size, (64, 80), Grid(16, 7.5)), atol=1e-6)


def test_images_are_read_as_elsewhere(tmp_path):
    random = np.random.default_rng(0)
    rgb, grey = random.integers(0, 256, (6, 8, 3), np.uint8), random.integers(0, 65536, (6, 8), np.uint16)
    alpha = random.integers(0, 256, (6, 8, 4), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(rgb).convert("L").save(tmp_path / "grey.bmp")
    Image.fromarray(rgb).quantize(8).save(tmp_path / "palette.png")
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.fromarray(grey).save(tmp_path / "negative.tif", tiffinfo={262: 0})
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 7
    for path in paths:
        np.testing.assert_array_equal(run_model.read_image(path), read_image(path), path.name)
    for name in ("pages.tif", "moving.png"):
        Image.fromarray(rgb).save(tmp_path / name, save_all=True, append_images=[Image.fromarray(rgb[::-1])])
        for read in (run_model.read_image, read_image):
            with pytest.raises((ValueError, DefectlocError), match="holds several pictures"):
                read(tmp_path / name)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="floating-point"):
        run_model.read_image(tmp_path / "float.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_uncompressed_tiffs_stand_as_their_orientation_says(tmp_path, mode, orientation):
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    pixels = grey if mode == "L" else grey.astype(np.uint16) * 257
    path = turned_tiff(tmp_path / "turned.tif", pixels, orientation, mode)
    np.testing.assert_array_equal(run_model.read_image(path), np.repeat(grey[..., None], 3, axis=2))


def test_it_imports_nothing_but_what_it_says():
    tree = ast.parse(Path(run_model.__file__).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}
