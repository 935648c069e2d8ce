"""Files from the network, whole and checked."""

import contextlib
import http.client
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from defectloc.errors import DefectlocError
from defectloc.files import digest

_SCHEMES = ("http", "https", "file")
_CHUNK = 1 << 20
_TIMEOUT_S = 60
# A connection that breaks is taken up again this often in one call, as long as each attempt brought something.
_ATTEMPTS = 5


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


# Some of these are OSErrors, which otherwise mean the disk.
_NETWORK = (
    _BrokenOffError,
    http.client.HTTPException,
    urllib.error.URLError,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


def download(url: str, path: Path, sha256: str, *, page: str | None = None) -> Path:
    """Fetch `url` to `path`, or find it already there, and return `path` once its SHA-256 digest is right.

    What has arrived lies in `<path>.part` and is continued by the next call. `page` is a web page that leads to the
    file by hand, for the messages. Raises DefectlocError for an address that does not answer, a digest that does not
    fit (what was fetched is removed), or a folder that cannot be written.
    """
    if urlsplit(url).scheme not in _SCHEMES:
        raise DefectlocError(f"cannot fetch {url}: the address must begin with {', '.join(_SCHEMES)}.")
    if path.exists():
        found = digest(path)
        if found != sha256.lower():
            raise DefectlocError(
                f"{path} is there, but its SHA-256 is {_short(found)} and not {_short(sha256)}; "
                "remove it and try again."
            )
        return path
    part = path.with_name(path.name + ".part")
    by_hand = f"fetch it by hand{f' (see {page})' if page else ''}, save it as {path} and try again"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with bytes_bar(path.name) as advance:
            _fetch(url, part, advance, by_hand)
        found = digest(part)
        if found != sha256.lower():
            part.unlink()
            raise DefectlocError(
                f"{path.name} from {url} has the SHA-256 {_short(found)} and not {_short(sha256)}: it was damaged on "
                f"its way or replaced by its publisher, and was removed; try again, or {by_hand}."
            )
        part.replace(path)
    except OSError as error:
        raise DefectlocError(f"{part} cannot be written ({error.strerror or error}).") from error
    return path


@contextlib.contextmanager
def bytes_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar with rate and time left, on a terminal only; give a function for (bytes so far, bytes in all)."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    described = TextColumn("{task.description}")
    with Progress(described, *columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _short(sha256: str) -> str:
    return f"{sha256[:12].lower()}…"


def _opener() -> urllib.request.OpenerDirector:
    # Put together by hand, because the default one follows a redirection to ftp.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.FileHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _fetch(url: str, part: Path, advance: Callable[[int, int | None], None], by_hand: str) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, advance)
            return
        except urllib.error.HTTPError as error:
            error.close()
            # 416: the part holds all there is, or more; the digest tells which.
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                return
            raise DefectlocError(f"{url} answers {error.code} {error.reason}; {by_hand}.") from error
        except _NETWORK as error:
            brought = (part.stat().st_size if part.exists() else 0) - before
            if brought <= 0 or attempt == _ATTEMPTS:
                reason = getattr(error, "reason", None) or error
                kept = f"; {before + brought:,} bytes are kept, and another try continues there" if brought else ""
                raise DefectlocError(f"{url} cannot be reached ({reason}){kept}; or {by_hand}.") from error


def _continue(url: str, part: Path, advance: Callable[[int, int | None], None]) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "defectloc"})
    if done and urlsplit(url).scheme != "file":
        request.add_header("Range", f"bytes={done}-")
    with _opener().open(request, timeout=_TIMEOUT_S) as answer:
        if not _continues_at(answer, done):
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        with part.open("ab" if done else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                advance(done, total)
        if total is not None and done < total:
            raise _BrokenOffError(f"it broke off after {done:,} of {total:,} bytes")


def _continues_at(answer: Any, start: int) -> bool:
    """Tell whether the server honoured the range; some ignore it and send the file from its beginning."""
    if getattr(answer, "status", None) != http.client.PARTIAL_CONTENT:
        return False
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-")
