"""Text files that grow by whole records, and go on after a process was killed in the middle of one."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from defectloc.files import refusal


def records(path: Path, quoted: bool) -> Iterator[tuple[str, int]]:
    """Give each whole record of a file with the byte at which it ends; what a killed process left is no record.

    A record ends with a line; `quoted`: but not within quotes, as in CSV files. Raises ValueError for what is no UTF-8.
    """
    text, end = b"", 0
    with path.open("rb") as file:
        for line in file:
            text += line
            if not line.endswith(b"\n") or (quoted and text.count(b'"') % 2):
                continue
            end += len(text)
            yield text.decode(), end
            text = b""


class Journal:
    """A file to which text is appended, after its first `end` bytes; the rest is cut off."""

    def __init__(self, path: Path, end: int = 0) -> None:
        """Raises DefectlocError where the file cannot be written."""
        self.path = path
        try:
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise refusal(error, path) from error

    def write(self, text: str) -> None:
        """Append text, which is handed to the system before this returns: what kills the process loses none of it."""
        try:
            self._file.write(text.encode())
            self._file.flush()
        except OSError as error:
            raise refusal(error, self.path) from error

    def __enter__(self) -> Self:
        """Give the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring the bytes to the disk and close the file."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as failed:
            raise refusal(failed, self.path) from failed
