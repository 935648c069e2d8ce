"""The last few results of something slow, such as decoding a large photograph, for threads that ask in turn."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Calls `make(key)` once for a key among the `most` that were asked for last; threads may ask together.

    What `make` raises, each asker gets.
    """

    def __init__(self, make: Callable[[str], T], most: int) -> None:
        self._make, self._most = make, most
        self._lock = Lock()
        self._made: OrderedDict[str, Future[T]] = OrderedDict()

    def __call__(self, key: str) -> T:
        """Give what is made of a key."""
        with self._lock:
            found = self._made.get(key)
            if found is None:
                promised: Future[T] = Future()
                self._made[key] = promised
                if len(self._made) > self._most:
                    self._made.popitem(last=False)
            else:
                self._made.move_to_end(key)
        if found is not None:
            return found.result()
        try:
            promised.set_result(self._make(key))
        except BaseException as error:
            promised.set_exception(error)
        return promised.result()
