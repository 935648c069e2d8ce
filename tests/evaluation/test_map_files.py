"""Maps from files, whole and damaged."""

import io

import numpy as np
import pytest
from PIL import Image

from defectloc.errors import DefectlocError
from defectloc.evaluation.map_files import find_maps, read_map
from tests.conftest import turned_tiff

VALUES = np.arange(20, dtype=np.float32).reshape(4, 5)


def file_of(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == ".npy":
        np.save(buffer, VALUES)
    elif kind == ".npz":
        np.savez_compressed(buffer, map=VALUES)
    elif kind == ".png":
        Image.fromarray(VALUES.astype(np.uint8)).save(buffer, "png")
    else:
        Image.fromarray(VALUES).save(buffer, "tiff", compression="tiff_deflate")
    return buffer.getvalue()


def first(folder):
    return next(iter(find_maps(folder).values()))()


@pytest.mark.parametrize("kind", [".npy", ".npz", ".png", ".tiff"])
def test_all_kinds(tmp_path, kind: str) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / f"a.b{kind}").write_bytes(file_of(kind))
    maps = find_maps(tmp_path)
    assert list(maps) == ["cut/a.b"]
    np.testing.assert_array_equal(maps["cut/a.b"](), VALUES)


def test_an_uncompressed_tiff_stands_as_its_orientation_says(tmp_path) -> None:
    np.testing.assert_array_equal(read_map(turned_tiff(tmp_path / "a.tif", VALUES.astype(np.uint8), 6)), VALUES)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".png", ".tiff"])
def test_damaged_files_end_in_one_sentence(tmp_path, kind: str) -> None:
    rng = np.random.default_rng(0)
    whole, path = file_of(kind), tmp_path / f"a{kind}"
    damaged = [b"", b"no map", whole[::-1], *(whole[: int(n)] for n in rng.integers(1, len(whole) - 1, 40))]
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    sentences = []
    for content in damaged:
        path.write_bytes(content)
        try:
            assert np.isfinite(first(tmp_path)).all()
        except DefectlocError as error:
            sentences.append(str(error))
    assert len(sentences) > 20
    assert all(path.name in sentence and "\n" not in sentence for sentence in sentences)


def test_a_header_cannot_ask_for_more_than_the_file_holds(tmp_path) -> None:
    content = file_of(".npy").replace(b"(4, 5), }   ", b"(40000,50000)")[: 128 + 80]
    assert b"50000" in content
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DefectlocError, match="cannot be read as a map"):
        first(tmp_path)


def test_what_is_no_map_is_refused(tmp_path) -> None:
    path = tmp_path / "a.npy"
    wrong = {
        "finite": [np.full((3, 3), np.nan), np.full((3, 3), 1e300)],
        "one number per pixel": [np.zeros((3, 3), complex), np.zeros((3, 4, 2)), np.zeros(3), np.array(["a"])],
    }
    for sentence, arrays in wrong.items():
        for array in arrays:
            np.save(path, array)
            with pytest.raises(DefectlocError, match=sentence):
                read_map(path)
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DefectlocError, match="colours"):
        read_map(tmp_path / "a.png")
    frames = [Image.fromarray(VALUES)] * 2
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with pytest.raises(DefectlocError, match="2 pictures"):
        read_map(tmp_path / "a.tiff")


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 5, 1), (1, 1, 4, 5), (1, 1, 1), (1, 1, 7)])
def test_axes_of_length_1_are_dropped(tmp_path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.ones(shape, np.float16))
    assert read_map(tmp_path / "a.npy").shape == {3: (1, 1), 9: (1, 7)}.get(sum(shape), (4, 5))


def test_16_bit_pictures_keep_their_values(tmp_path) -> None:
    Image.fromarray((VALUES * 1000).astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_map(tmp_path / "a.png"), VALUES * 1000)


def test_one_archive_of_named_maps(tmp_path) -> None:
    np.savez(tmp_path / "all.npz", **{"cut/000": VALUES, "good/000.png": VALUES + 1})
    maps = find_maps(tmp_path)
    assert list(maps) == ["cut/000", "good/000"]
    np.testing.assert_array_equal(maps["good/000"](), VALUES + 1)


def test_folders_without_maps_are_refused(tmp_path) -> None:
    with pytest.raises(DefectlocError, match="not a folder"):
        find_maps(tmp_path / "nowhere")
    with pytest.raises(DefectlocError, match="no maps"):
        find_maps(tmp_path)
    for kind in (".npy", ".png"):
        (tmp_path / f"a{kind}").write_bytes(file_of(kind))
    with pytest.raises(DefectlocError, match="two maps named a"):
        find_maps(tmp_path)


def test_an_archive_named_as_an_array_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((2, 2)))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DefectlocError, match="it is an archive"):
        read_map(tmp_path / "a.npy")
