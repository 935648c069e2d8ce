import stat
import tarfile
import zipfile

import pytest

from defectloc.data.unpack import unpack
from defectloc.errors import DefectlocError
from tests.data.archives import CONTENT, GOOD, names, tar


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz"), ("zip", None)])
def test_archives_are_unpacked_whole_or_in_part_or_not_at_all(tmp_path, suffix, mode):
    path = tmp_path / f"a.{suffix}"
    if mode:
        tar(path, GOOD, mode)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in GOOD.items():
                archive.writestr(name, content)
    assert unpack(path, tmp_path / "all") == tmp_path / "all"
    assert {n: (tmp_path / "all" / n).read_bytes() for n in GOOD} == GOOD
    unpack(path, tmp_path / "pill", only="pill")
    assert (tmp_path / "pill/test/crack/000.png").read_bytes() == CONTENT
    assert sorted(p.name for p in (tmp_path / "pill").iterdir()) == ["test", "train"]
    with pytest.raises(DefectlocError, match="pill, screw"):
        unpack(path, tmp_path / "bottle", only="bottle")
    with pytest.raises(DefectlocError, match="already there"):
        unpack(path, tmp_path / "pill")
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 11_000 if suffix == "tar" else len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(DefectlocError, match="damaged"):
            unpack(path, tmp_path / "cut")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "all", "pill"]


@pytest.mark.parametrize(
    "member",
    [
        {"/etc/x": b""},
        {"pill/../../x": b""},
        {"..\\x": b""},
        {"C:\\x": b""},
        {"l": link("l", "../outside")},
        {"l": link("l", "ok.png")},
        {"l": link("l", "ok.png", tarfile.LNKTYPE)},
        {"l": link("l", "/etc/passwd")},
        {"l": link("l", "../outside", tarfile.LNKTYPE)},
        {"d": link("d", "", tarfile.CHRTYPE)},
        {"f": link("f", "", tarfile.FIFOTYPE)},
    ],
)
def test_members_that_leave_or_are_devices_are_refused(tmp_path, member):
    path = tar(tmp_path / "a.tar", {"ok.png": b"ok", **member}, "w")
    with pytest.raises(DefectlocError, match="is not safe"):
        unpack(path, tmp_path / "out")
    assert names(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("name", ["../x", "/x", "link"])
def test_zip_members_that_leave_or_are_links_are_refused(tmp_path, name):
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DefectlocError, match="is not safe"):
        unpack(path, tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]
