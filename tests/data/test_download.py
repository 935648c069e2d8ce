import contextlib
import hashlib
import http.server
import threading

import pytest

from defectloc.data.download import download
from defectloc.data.sets import fetch_mvtec
from defectloc.errors import DefectlocError
from tests.data.archives import CONTENT, GOOD, names, tar


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with or without ranges; `server.cuts` ends the next answers after that many bytes."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.honours_ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(files, honours_ranges=True, cuts=()):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.honours_ranges, server.cuts, server.ranges = files, honours_ranges, list(cuts), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_file_arrives_once(tmp_path, capfd):
    with serving({"/a.bin": CONTENT}) as server:
        for _ in range(2):
            path = download(server.url + "/a.bin", tmp_path / "new folder" / "a.bin", sha256(CONTENT))
        assert server.ranges == [None]
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["new folder", "new folder/a.bin"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("honours_ranges", [True, False])
def test_what_was_there_is_continued_where_the_server_can(tmp_path, honours_ranges):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:100_000])
    with serving({"/a.bin": CONTENT}, honours_ranges) as server:
        download(server.url + "/a.bin", tmp_path / "a.bin", sha256(CONTENT))
        assert server.ranges == ["bytes=100000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


def test_a_part_that_was_complete_is_only_checked(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    with serving({"/a.bin": CONTENT}) as server:
        download(server.url + "/a.bin", tmp_path / "a.bin", sha256(CONTENT))
    assert names(tmp_path) == ["a.bin"]


def test_a_broken_connection_is_taken_up_again_and_a_dead_one_keeps_the_part(tmp_path):
    with serving({"/a.bin": CONTENT}, cuts=[1000, 50_000]) as server:
        download(server.url + "/a.bin", tmp_path / "a.bin", sha256(CONTENT))
        assert server.ranges == [None, "bytes=1000-", "bytes=51000-"]
    with (
        serving({"/a.bin": CONTENT}, cuts=[7000, 0]) as server,
        pytest.raises(DefectlocError, match=r"broke off after 7,000 of 300,000 bytes"),
    ):
        download(server.url + "/a.bin", tmp_path / "b.bin", sha256(CONTENT))
    assert (tmp_path / "b.bin.part").read_bytes() == CONTENT[:7000]


def test_a_wrong_digest_leaves_nothing(tmp_path):
    wanted = "0123456789ab" + 52 * "0"
    with serving({"/a.bin": CONTENT}) as server, pytest.raises(DefectlocError) as error:
        download(server.url + "/a.bin", tmp_path / "a.bin", wanted)
    for part in ("a.bin", "0123456789ab…", sha256(CONTENT)[:12] + "…"):
        assert part in str(error.value)
    assert names(tmp_path) == []


def test_a_wrong_file_in_the_place_is_not_overwritten(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(DefectlocError, match="remove it"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", sha256(CONTENT))
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


def test_what_cannot_be_reached_is_named_with_the_way_by_hand(tmp_path):
    with serving({}) as server:
        url = server.url + "/gone.tar.xz"
        with pytest.raises(DefectlocError, match="404") as error:
            download(url, tmp_path / "a.tar.xz", sha256(b""), page="https://publisher.example/page")
        assert url in str(error.value)
        assert "https://publisher.example/page" in str(error.value)
        assert str(tmp_path / "a.tar.xz") in str(error.value)
    with pytest.raises(DefectlocError, match="cannot be reached"):
        download(url, tmp_path / "a.tar.xz", sha256(b""))
    with pytest.raises(DefectlocError, match="must begin with http, https, file"):
        download("ftp://127.0.0.1/a", tmp_path / "a", sha256(b""))
    assert names(tmp_path) == []


def test_local_files_are_copied_and_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    url = (tmp_path / "a.bin").as_uri()
    assert download(url, tmp_path / "b.bin", sha256(CONTENT)).read_bytes() == CONTENT
    with pytest.raises(DefectlocError, match="cannot be written"):
        download(url, tmp_path / "a.bin" / "c.bin", sha256(CONTENT))


@pytest.mark.parametrize("top", ["", "mvtec_anomaly_detection/"])
def test_mvtec_is_fetched_once_with_its_licence(tmp_path, top):
    archive = tar(tmp_path / "source.tar.xz", {top + name: content for name, content in GOOD.items()}).read_bytes()
    root, said = tmp_path / "data", []
    with serving({"/x/mvtec.tar.xz": archive}) as server:
        url = server.url + "/x/mvtec.tar.xz"
        assert fetch_mvtec(root, "pill", url, sha256(archive), say=said.append) == root / "pill"
        assert fetch_mvtec(root, "pill", url, sha256(archive), say=said.append) == root / "pill"
        assert len(server.ranges) == 1
    assert sorted(p.name for p in root.iterdir()) == ["pill"]
    assert (root / "pill/test/crack/000.png").read_bytes() == CONTENT
    assert "CC BY-NC-SA 4.0" in said[0]
    assert "already there" in said[-1]
    (root / "bottle/train").mkdir(parents=True)
    with pytest.raises(DefectlocError, match="lacks"):
        fetch_mvtec(root, "bottle", url, sha256(archive), say=said.append)


def test_an_archive_fetched_by_hand_is_taken_and_can_be_kept(tmp_path):
    archive = tar(tmp_path / "mvtec.tar.xz", GOOD)
    url = "http://127.0.0.1:9/mvtec.tar.xz"
    for subset in ("pill", "screw"):
        fetch_mvtec(tmp_path, subset, url, sha256(archive.read_bytes()), keep_archive=True, say=lambda line: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mvtec.tar.xz", "pill", "screw"]
