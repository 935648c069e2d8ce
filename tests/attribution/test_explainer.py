"""Maps that are stored per image, and made again only where they have to be."""

from dataclasses import replace

import numpy as np
import pytest

from defectloc.attribution import explainer
from defectloc.attribution.explainer import Explainer, Explanation
from defectloc.attribution.network import ExtraMap
from defectloc.data.tiles import Tiling
from defectloc.localization.maps import Grid
from tests.attribution.networks import FEW, tiny

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def eighths(_, photograph):
    return photograph[::8, ::8, 0].astype(np.float32), Grid(8, 3.5)


def counted(monkeypatch):
    calls, original = [], explainer.attribute
    monkeypatch.setattr(explainer, "attribute", lambda *given: calls.append(given) or original(*given))
    return calls


def test_a_stored_map_is_read(tmp_path, monkeypatch):
    calls = counted(monkeypatch)
    first, again = (Explainer("channels", tiny(), FEW, 0, None, tmp_path).explain(IMAGE, 1) for _ in range(2))
    assert len(calls) == 1
    np.testing.assert_array_equal(first.map, again.map)
    assert (first.grid, first.seconds, first.evaluations) == (again.grid, again.seconds, again.evaluations)
    assert first.parts.keys() == again.parts.keys() >= {"index", "weight", "map", "bias"}
    np.testing.assert_array_equal(first.parts["map"], again.parts["map"])
    Explainer("channels", tiny(), FEW, 0, None, tmp_path).explain(IMAGE, 2)
    Explainer("channels", tiny(), FEW, 0, None, tmp_path).explain(IMAGE[:, :20], 1)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_map_is_made_again(tmp_path, damage):
    one = Explainer("gradcam", tiny(), FEW, 0, None, tmp_path)
    whole = one.explain(IMAGE, 1)
    (path,) = (tmp_path / one.key).iterdir()
    content = path.read_bytes()
    flipped = content[:60] + bytes(255 - byte for byte in content[60:80]) + content[80:]
    path.write_bytes({"cut": content[:100], "empty": b"", "flipped": flipped}[damage])
    np.testing.assert_array_equal(one.explain(IMAGE, 1).map, whole.map)


def test_key_names_what_a_map_depends_on(tmp_path):
    model = tiny()

    def key(method, config=FEW, seed=0, layer=None, of=model):
        return Explainer(method, of, config, seed, layer, tmp_path).key

    assert key("rise") != key("rise", replace(FEW, rise_masks=7))
    assert key("rise") == key("rise", replace(FEW, lime_samples=7, batch_size=1))
    assert key("rise") != key("rise", seed=1)
    assert key("gradcam") != key("gradcam", layer="0")
    assert key("rise") == key("rise", layer="0")
    assert key("rise") != key("rise", of=replace(model, key="other weights"))
    assert key("rise") != key("rise", of=replace(model, image_size=(64, 32)))
    maps = [replace(model, extra_maps={"memory": ExtraMap(bank, eighths)}) for bank in "ab"]
    assert key("memory", of=maps[0]) != key("memory", of=maps[1])


@pytest.mark.parametrize(
    ("tiling", "size", "evaluations"), [(None, (32, 32), 1), (Tiling(16, 32, 0.25, 8), (40, 64), 6)]
)
def test_a_map_of_its_own_is_made_of_the_photograph(tmp_path, tiling, size, evaluations):
    """Whole or in tiles; once it is stored, the same is read."""
    model = replace(tiny(), image_size=(32, 32), extra_maps={"memory": ExtraMap("bank", eighths, tiling)})
    for _ in range(2):
        found = Explainer("memory", model, FEW, 0, None, tmp_path).explain(IMAGE, 1)
        np.testing.assert_array_equal(found.map, IMAGE[::8, ::8, 0])
        assert (found.input_size, found.evaluations, found.grid) == (size, evaluations, Grid(8, 3.5))


def test_a_map_of_fewer_pixels_than_cells_keeps_its_maximum(tmp_path):
    cells = np.zeros((24, 24), np.float32)
    cells[6, 7] = 1
    found = Explanation(cells, Grid(8, 3.5), 0.0, 1, {}, (192, 192))
    assert found.at((8, 8)).max() == 0
    assert found.reduced((8, 8)).max() > 0.5
    np.testing.assert_array_equal(found.reduced((192, 192)), found.at((192, 192)))


def test_each_image_has_its_own_seed(tmp_path, monkeypatch):
    calls = counted(monkeypatch)
    one = Explainer("gradcam", tiny(), FEW, 3, None, tmp_path)
    for image in (IMAGE, IMAGE[::-1].copy()):
        one.explain(image, 1)
    first, second = (given[5] for given in calls)
    assert first != second
