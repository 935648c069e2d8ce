"""A folder into which a camera drops files: which of them are whole, and not looked at yet."""

import os
import time
from collections.abc import Callable, Iterator

from defectloc.data.image_names import ImageNames

# Files that are waited for at once; others have their turn when these are done, so that memory stays bounded.
MOST_WAITING = 4096

# Size in bytes and time of the last change in nanoseconds.
State = tuple[int, int]


class Watcher:
    """Finds files that have kept size and time of change for `settle` seconds, since a camera may still be writing.

    `is_done` tells for a name whether there is nothing left to do with it.
    """

    def __init__(self, names: ImageNames, settle: float, is_done: Callable[[str], bool]) -> None:
        self._names, self._settle, self._is_done = names, settle, is_done
        # With the time since when they have been as they are.
        self._waiting: dict[str, tuple[State, float]] = {}
        self._given: dict[str, State] = {}
        self._refused: dict[str, State] = {}

    @property
    def n_refused(self) -> int:
        """Count the files that could not be read and have not changed since."""
        return len(self._refused)

    def settled(self) -> Iterator[str]:
        """Look once through the folder, and give the names of the files that are whole, in order."""
        seen = set()
        for name in self._names:
            if self._is_done(name):
                continue
            if name in self._waiting:
                seen.add(name)
            state = self.state(name)
            if state is None or self._refused.get(name) == state:
                self._waiting.pop(name, None)
                continue
            now = time.monotonic()
            before, since = self._waiting.get(name, (None, now))
            if state != before:
                if before is None and len(self._waiting) >= MOST_WAITING:
                    continue
                self._waiting[name] = (state, now)
                seen.add(name)
            elif now - since >= self._settle:
                del self._waiting[name]
                self._given[name] = state
                yield name
        # Files that are gone must not keep the places of others.
        self._waiting = {name: waits for name, waits in self._waiting.items() if name in seen}

    def is_unchanged(self, name: str) -> bool:
        """Tell whether a file, now read, is still as it was when it was given; if not, it is given again later."""
        return self.state(name) == self._given[name]

    def refuse(self, name: str) -> None:
        """Note that a file could not be read; it is given again once it has changed."""
        self._refused[name] = self._given[name]

    def finish(self, name: str) -> None:
        """Drop a file that was given; `is_done` tells from now on whether it is done."""
        state = self._given.pop(name)
        if self._refused.get(name) != state:
            self._refused.pop(name, None)

    def state(self, name: str) -> State | None:
        """Give what changes while a file is written; None where it is gone."""
        try:
            found = os.stat(self._names.path(name))
        except (OSError, ValueError):
            return None
        return found.st_size, found.st_mtime_ns
