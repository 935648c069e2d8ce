"""Archives for the tests that fetch and unpack them."""

import io
import tarfile

import numpy as np

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
GOOD = {"pill/train/good/000.png": b"one", "pill/test/crack/000.png": CONTENT, "screw/train/good/000.png": b"two"}


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def tar(path, members, mode="w:xz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
