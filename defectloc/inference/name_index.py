"""Which names have been seen, in 16 bytes each."""

import hashlib

import numpy as np

DIGITS = 16
# Names that are kept in a set, which takes several times as much, before they are sorted in with the others.
RECENT = 2**16


class NameIndex:
    """A set of names by their hashes, so that a million of them take 16 MB; equal hashes of two are not to be met."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, f"S{DIGITS}")
        self._recent: set[bytes] = set()

    def __contains__(self, name: str) -> bool:
        """Tell whether a name was added."""
        return self._has(_digest(name))

    def add(self, name: str) -> bool:
        """Add a name; tells whether it is new."""
        digest = _digest(name)
        if self._has(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= RECENT:
            self._sorted = np.union1d(self._sorted, np.array(list(self._recent), self._sorted.dtype))
            self._recent = set()
        return True

    def _has(self, digest: bytes) -> bool:
        place = int(np.searchsorted(self._sorted, np.bytes_(digest)))
        found = place < len(self._sorted) and self._sorted[place] == digest.rstrip(b"\0")
        return digest in self._recent or bool(found)


def _digest(name: str) -> bytes:
    # Names may hold what the file system gave and is no UTF-8.
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=DIGITS).digest()
