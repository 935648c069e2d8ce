"""`python -m defectloc.explain`: where did the network look? One picture, by one of many methods; or all compared."""

import shutil
from pathlib import Path

import numpy as np

from defectloc import cli
from defectloc.config import ExplainSettings
from defectloc.explaining.asked import Asked, Case, explain_all, prepare
from defectloc.files import atomic


def run(settings: ExplainSettings) -> Path:
    """Explain images by one method, or compare methods; returns the folder of what was written."""
    asked = prepare(settings)
    if settings.compare:
        from defectloc.explaining.comparison import compare

        return compare(asked, settings)
    cases = explain_all(asked, settings)
    given = [settings.method, settings.select, settings.target, settings.layer]
    folder = asked.output / "-".join(str(part).replace("/", "_") for part in given if part is not None)
    # Pictures of images that were drawn by another seed must not stay among these.
    for pictures in ("single", "channels"):
        shutil.rmtree(folder / pictures, ignore_errors=True)
    _write(folder / "explanations.npz", cases, asked, settings)
    from defectloc.explaining.pictures import draw

    sheet = draw(cases, asked, settings, folder)
    print(f"maps: {folder / 'explanations.npz'}")
    print(f"figure: {sheet}")
    return folder


def _write(path: Path, cases: list[Case], asked: Asked, settings: ExplainSettings) -> None:
    """Write the maps `(N, h, w)` float32 with what they belong to, without pickle."""
    classes = asked.subject.classes
    grid = cases[0].found.grid
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            paths=np.array([case.row.path for case in cases], dtype=np.str_),
            maps=np.stack([case.found.heat for case in cases]).astype(np.float32),
            grid=np.array([grid.stride, grid.offset]),
            image_size=np.array(asked.subject.image_size),
            targets=np.array([classes[case.target] for case in cases], dtype=np.str_),
            probabilities=np.array([case.answer.chances[case.target] for case in cases]),
            labels=np.array([case.row.label for case in cases]),
            method=np.array(settings.method),
        )


def main() -> None:
    """Command line."""
    cli.run_command("explain", run)


if __name__ == "__main__":
    main()
