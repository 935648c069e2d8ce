"""Photographs of a stream of names, decoded in batches ahead of the network."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defectloc.data.image_names import ImageNames, is_writable
from defectloc.data.images import read_image
from defectloc.data.watching import Watcher
from defectloc.errors import DefectlocError

# Threads that decode the next batch while the network is at this one.
READERS = 2
# Of a watched folder: seconds between two looks, and the most of the time that is spent on looking.
PAUSE, SHARE = 0.25, 0.2


@dataclass(frozen=True)
class Read:
    """A photograph `(H, W, 3)` by its name, or the sentence that says why it cannot be read."""

    name: str
    image: NDArray[np.uint8] | None
    error: str = ""


def read(names: ImageNames, name: str) -> Read:
    """Decode the photograph of a name."""
    if not is_writable(name):
        return Read(name, None, f"the name {name!a} is not valid UTF-8; rename the file.")
    try:
        return Read(name, read_image(names.path(name)))
    except DefectlocError as error:
        return Read(name, None, str(error))


def batches(names: Iterable[str], size: int) -> Iterator[list[str]]:
    """Cut a stream of names into batches."""
    rest = iter(names)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def watched(watcher: Watcher, size: int, stop: threading.Event) -> Iterator[list[str]]:
    """Give batches of the files that are whole by now, look after look, until stopped.

    An empty batch ends each look, so that nobody who reads ahead keeps the last one waiting.
    """
    while not stop.is_set():
        started = time.monotonic()
        yield from batches(watcher.settled(), size)
        yield []
        stop.wait(max(PAUSE, (time.monotonic() - started) * (1 / SHARE - 1)))


def read_ahead(named: Iterable[list[str]], reader: Callable[[str], Read]) -> Iterator[list[Read]]:
    """Give each batch of names read, while the next one is being read."""
    with ThreadPoolExecutor(READERS) as pool:
        coming: list[Future[Read]] | None = None
        for batch in named:
            waiting, coming = coming, [pool.submit(reader, name) for name in batch]
            if waiting is not None:
                yield [each.result() for each in waiting]
        if coming is not None:
            yield [each.result() for each in coming]
