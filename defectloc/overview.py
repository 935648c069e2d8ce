"""`python -m defectloc.overview`: describe the data set before training."""

from pathlib import Path

from defectloc import cli
from defectloc.config import DataSettings
from defectloc.data.digests import Digests
from defectloc.data.sources import load
from defectloc.data.survey import Survey, survey
from defectloc.figures.overview import draw_overview


def run(settings: DataSettings) -> Survey:
    """Survey a subset, print what was found, draw `overview.png`; returns the survey."""
    outputs = Path(settings.outputs).expanduser()
    root, catalog = load(settings.data, settings.subset, Digests(outputs / ".digests"))
    found = survey(catalog, root)
    folder = Path(settings.output).expanduser() if settings.output else outputs / settings.subset
    draw_overview(found, root, catalog, folder / "overview.png", title=settings.subset)
    print(found.counts.to_string(index=False))
    print(found.formats.to_string())
    print("\n".join([*found.warnings, found.advice]))
    print(f"figure: {folder / 'overview.png'}")
    return found


def main() -> None:
    """Command line."""
    cli.run_command("overview", run)


if __name__ == "__main__":
    main()
