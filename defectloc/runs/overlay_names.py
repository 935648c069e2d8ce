"""Where the overlay of an image lies, whatever the image is called."""

import hashlib
from pathlib import PurePosixPath

# Bytes of a part of a path; most file systems take 255, of which a temporary name needs some.
LONGEST = 200


def overlay_name(name: str) -> str:
    """Name the overlay of an image after it, `a/b.jpg.png` for `a/b.jpg`, so that a.png and a.jpg do not meet.

    A name that would leave the folder (`../b.jpg`, `/a/b.jpg`) or is too long gets another, with a hash of it.
    """
    parts = PurePosixPath(name).parts
    short = [_shortened(part) for part in parts if part not in ("/", "//", "..")]
    if tuple(short) == parts:
        return f"{name}.png"
    *above, last = short
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return "/".join([*above, f"{last}-{digest}.png"])


def _shortened(part: str) -> str:
    encoded = part.encode()
    return part if len(encoded) <= LONGEST else encoded[: LONGEST - 20].decode(errors="ignore")
