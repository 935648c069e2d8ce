"""Public data sets fetched from their publishers."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from defectloc.data.download import download
from defectloc.data.unpack import unpack
from defectloc.errors import DefectlocError

MVTEC_PAGE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
MVTEC_NOTICE = f"""\
MVTec AD is published by MVTec Software GmbH under CC BY-NC-SA 4.0: NOT for commercial use.
  licence   https://creativecommons.org/licenses/by-nc-sa/4.0/
  page      {MVTEC_PAGE}
  cite      P. Bergmann, M. Fauser, D. Sattlegger, C. Steger: MVTec AD - A Comprehensive Real-World Dataset for
            Unsupervised Anomaly Detection, CVPR 2019, doi:10.1109/CVPR.2019.00982"""


def fetch_mvtec(
    root: Path,
    subset: str,
    url: str,
    sha256: str,
    *,
    keep_archive: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Fetch one subset of MVTec AD to `<root>/<subset>` and return that folder; one that is complete is left alone.

    The archive may hold the one subset or all fifteen; it is removed afterwards unless `keep_archive`. An archive
    that already lies in `root` under its own name, fetched by hand, is taken. Raises DefectlocError as `download` and
    `unpack` do, and for a folder that is there but incomplete.
    """
    folder = root / subset
    if folder.exists():
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            say(f"{folder} is already there; nothing was fetched.")
            return folder
        raise DefectlocError(f"{folder} is there but lacks train/ or test/; move it away and try again.")
    say(MVTEC_NOTICE)
    archive = root / (Path(unquote(urlsplit(url).path)).name or f"{subset}.archive")
    download(url, archive, sha256, page=f"{MVTEC_PAGE}/downloads")
    unpack(archive, folder, only=subset)
    if not keep_archive:
        archive.unlink()
    say(f"{folder} is ready.")
    return folder
