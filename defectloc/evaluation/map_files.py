"""Maps from files of other programs: NumPy arrays, archives of them, and grey pictures."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectloc.errors import DefectlocError

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".tif", ".tiff")
# One number per pixel: 8 and 16 bits, integers, floats.
GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")

Loader = Callable[[], NDArray[np.float32]]


def find_maps(folder: Path) -> dict[str, Loader]:
    """Find the maps below a folder: each one's name, its path without suffix, and what loads it as `(H, W)`.

    An archive (.npz) of one array is one map, of several a map for each, named by its key. Raises DefectlocError for no
    folder, no maps, two of one name, and files that are no archives; the loaders for all that is no map.
    """
    if not folder.is_dir():
        raise DefectlocError(f"maps={folder} is not a folder.")
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (*ARRAYS, *PICTURES) and p.is_file()]
    maps: dict[str, Loader] = {}
    for path in files:
        for name, load in _contents(path, path.relative_to(folder).with_suffix("").as_posix()):
            if name in maps:
                raise DefectlocError(f"maps={folder} holds two maps named {name}; keep one.")
            maps[name] = load
    if not maps:
        raise DefectlocError(f"maps={folder} holds no maps (.npy, .npz, .tiff or .png).")
    return maps


def _contents(path: Path, name: str) -> Iterator[tuple[str, Loader]]:
    if path.suffix.lower() != ".npz":
        yield name, partial(read_map, path)
        return
    try:
        with np.load(path, allow_pickle=False) as content:
            keys = list(content.files)
    except Exception as error:
        raise _unreadable(path, error) from error
    for key in keys:
        own = name if len(keys) == 1 else Path(key).with_suffix("").as_posix()
        yield own, partial(read_map, path, key)


def read_map(path: Path, key: str | None = None) -> NDArray[np.float32]:
    """Read a map as float32 `(H, W)` from .npy, .png or .tiff, or the array `key` of .npz.

    Further axes of length 1, before or behind, are dropped. Raises DefectlocError for files that are damaged, hold
    colours, several pictures or another number of axes, and for NaN, infinities and what a float32 cannot hold.
    """
    try:
        values = _array(path, key) if path.suffix.lower() in ARRAYS else _picture(path)
    except DefectlocError:
        raise
    except Exception as error:
        # A damaged file may raise anything in the decoders of three libraries.
        raise _unreadable(path, error) from error
    shape = values.shape
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iuf":
        raise DefectlocError(f"{path} is no map: it must be one number per pixel, not {values.dtype} of shape {shape}.")
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        raise DefectlocError(f"{path} is no map: it must be one finite number per pixel.")
    return result


def _array(path: Path, key: str | None) -> NDArray:
    if key is None:
        # Mapped, so that a damaged header cannot ask for more memory than the file has bytes.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("it is an archive; name it .npz")
        return found
    with np.load(path, allow_pickle=False) as content:
        return content[key]


def _picture(path: Path) -> NDArray:
    with warnings.catch_warnings():
        # Pillow warns, and goes on with what is left of a damaged file.
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Given a path Pillow maps the file into memory, where a turned TIFF has other sides than it thinks.
        with path.open("rb") as file, Image.open(file) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DefectlocError(f"{path} is no map: it holds {image.n_frames} pictures.")  # type: ignore[attr-defined]
            if image.mode not in GREY_MODES:
                raise DefectlocError(
                    f"{path} is no map: it holds colours (mode {image.mode}), not one number per pixel."
                )
            image.load()
            return np.asarray(image)


def _unreadable(path: Path, error: Exception) -> DefectlocError:
    what = " ".join(str(error).split()) or type(error).__name__
    return DefectlocError(f"{path} cannot be read as a map ({what}).")
