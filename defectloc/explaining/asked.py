"""What a command of explanation works on: the network, the images at hand, and each image explained."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps

from defectloc.config import ExplainSettings
from defectloc.data.images import read_image
from defectloc.errors import DefectlocError
from defectloc.explaining.kept import Explanation, Maker
from defectloc.explaining.selection import images_of, select, test_images
from defectloc.explaining.subjects import Decision, decision_of, root_of, subject_of
from defectloc.explaining.targets import Answer, answer, targets_of
from defectloc.localization.boxes import boxes_on
from defectloc.localization.maps import upsample
from defectloc.localization.normalization import normalize
from defectloc.progress import images_bar
from defectloc.runs import Run

if TYPE_CHECKING:
    from defectloc.attribution.subject import Subject


@dataclass(frozen=True)
class Asked:
    """A network, the images at hand, and where what is found goes."""

    subject: "Subject"
    run: Run | None
    decision: Decision
    base: Path
    images: pd.DataFrame
    output: Path


@dataclass(frozen=True)
class Case:
    """One image explained for one class."""

    row: Any
    image: np.ndarray
    answer: Answer
    target: int
    found: Explanation


def prepare(settings: ExplainSettings) -> Asked:
    """Find the images, draw those to explain (a comparison draws its own), and load the network.

    Raises DefectlocError for what is not there, all that can be told without the network first.
    """
    if settings.model.trainable_from is not None or (settings.run is None) == (settings.model.name is None):
        raise DefectlocError("explain needs run=FOLDER, or model=torchvision model.name=NAME; give one of them.")
    if settings.compare and (settings.run is None or settings.images is not None):
        raise DefectlocError("compare=true scores methods on the test images of a run; give run=FOLDER and no images.")
    if settings.colormap not in colormaps:
        near = difflib.get_close_matches(settings.colormap, list(colormaps), 1, 0.4) or ["inferno"]
        raise DefectlocError(f"colormap={settings.colormap} is none of Matplotlib's; take for example {near[0]}.")
    run = None if settings.run is None else Run.open(settings.run)
    if run is not None:
        run.require_classes()
    if settings.images is not None:
        base, images = images_of(settings.images)
    elif run is not None:
        base, images = root_of(settings, run), test_images(run)
    else:
        raise DefectlocError("model=torchvision needs images=FILE or FOLDER; only a run has images of its own.")
    from defectloc.attribution.methods import check

    if not settings.compare:
        check(settings.method, layer=settings.layer)
        images = select(images, settings.select, settings.n, settings.seed)
    subject = subject_of(settings, run)
    if not settings.compare:
        check(settings.method, subject)
    if settings.output is not None:
        output = Path(settings.output).expanduser()
    elif run is not None:
        output = run.folder / "explain"
    else:
        output = Path(settings.outputs).expanduser() / "explain" / str(settings.model.name)
    return Asked(subject, run, Decision() if run is None else decision_of(run), base, images, output)


def explain_all(asked: Asked, settings: ExplainSettings) -> list[Case]:
    """Explain the images, each for the class or classes that `target` names; what was kept is not repeated."""
    maker = Maker(
        settings.method, asked.subject, settings.attribution, settings.seed, settings.layer, asked.output / "maps"
    )
    cases = []
    with images_bar(settings.method, len(asked.images)) as advance:
        for row in asked.images.itertuples():
            image = read_image(asked.base / row.path)
            said = answer(asked.subject, image, asked.decision)
            for target in targets_of(settings.target, asked.subject.classes, said):
                cases.append(Case(row, image, said, target, maker.explain(image, target)))
            advance(1)
    return cases


def heat_of(case: Case, image_size: int) -> np.ndarray:
    """Give a case's map in the image's own pixels."""
    return upsample(case.found.heat, case.image.shape[:2], image_size, case.found.grid)


def boxes_of(case: Case, heat: np.ndarray, settings: ExplainSettings) -> np.ndarray:
    """Cut a map `(H, W)` into boxes `(N, 4)`."""
    where = settings.localization
    return boxes_on(normalize(heat, where.normalization), where, where.threshold)[["x0", "y0", "x1", "y1"]].to_numpy()
