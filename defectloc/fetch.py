"""`python -m defectloc.fetch`: get a data set."""

from pathlib import Path

from defectloc import cli
from defectloc.config import DataSettings
from defectloc.data.sets import fetch_mvtec
from defectloc.errors import DefectlocError


def run(settings: DataSettings) -> Path:
    """Download, check and unpack one subset below `data.root`."""
    data = settings.data
    if data.name != "mvtec" or not data.url or not data.sha256 or not data.root:
        raise DefectlocError(f"data={data.name} cannot be fetched; only data=mvtec has an address.")
    return fetch_mvtec(
        Path(data.root).expanduser(), settings.subset, data.url, data.sha256, keep_archive=data.keep_archive
    )


def main() -> None:
    """Command line."""
    cli.run_command("fetch", run)


if __name__ == "__main__":
    main()
