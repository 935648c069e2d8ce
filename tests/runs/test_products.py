"""Map products: addressed by what they were made from, and whole or made again."""

import json

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid
from defectloc.runs import products
from defectloc.runs.products import Product


@pytest.fixture
def product(tmp_path) -> Product:
    made = Product(tmp_path, "memory", {"version": 1, "dims": 8})
    with made.making() as note:
        maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
        products.write_maps(made.folder / products.MAPS, ["é/1.png", "2.png"], maps, (8.0, 3.5))
        note["seconds"] = 1.5
    return made


def test_maps_come_back(product):
    maps = products.read_maps(product)
    assert maps.grid == Grid(8.0, 3.5)
    assert list(maps.cells) == ["é/1.png", "2.png"]
    np.testing.assert_array_equal(np.stack(list(maps.cells.values())), np.arange(8).reshape(2, 2, 2))
    assert product.note["seconds"] == 1.5


def test_another_setting_has_another_folder(product):
    other = Product(product.run, "memory", {"version": 1, "dims": 16})
    assert other.folder != product.folder
    assert not other.is_whole
    assert product.is_whole
    assert products.products_of(product.run, "memory") == [product]
    assert products.products_of(product.run, "cam") == []


def test_what_was_cut_short_is_not_whole(tmp_path):
    product = Product(tmp_path, "memory", {"version": 1})

    def fail() -> None:
        with product.making():
            (product.folder / "bank.npz").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not product.is_whole
    with product.making():
        pass
    assert product.is_whole
    assert [path.name for path in product.folder.iterdir()] == ["key.json"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "key", "empty key"])
def test_what_was_changed_is_not_whole(product, damage):
    path, key = product.folder / products.MAPS, product.folder / products.KEY
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "gone":
        path.unlink()
    elif damage == "key":
        key.write_text(json.dumps(json.loads(key.read_text()) | {"made_from": {}}))
    else:
        key.write_text("")
    assert not product.is_whole
    with pytest.raises(DefectlocError, match="not whole"):
        _ = product.note


def test_pickled_maps_are_refused(product):
    path = product.folder / products.MAPS
    np.savez(path, paths=np.array(["a", object()], dtype=object), maps=np.zeros((2, 1, 1)), grid=np.zeros(2))
    with pytest.raises(DefectlocError, match="cannot be read as maps"):
        products.read_maps(product)


def test_maps_of_several_shapes_come_back(tmp_path):
    made = Product(tmp_path, "memory", {"version": 1})
    maps = [np.arange(6, dtype=np.float32).reshape(2, 3), np.full((1, 4), 7, np.float32), np.zeros((2, 3), np.float32)]
    with made.making():
        products.write_maps(made.folder / products.MAPS, ["a.png", "b.png", "c.png"], maps, (8.0, 3.5))
    cells = products.read_maps(made).cells
    assert list(cells) == ["a.png", "b.png", "c.png"]
    for found, expected in zip(cells.values(), maps, strict=True):
        np.testing.assert_array_equal(found, expected)
