"""What a network says of an image, and which of its classes is explained."""

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.explaining.subjects import ANOMALY, GOOD, Decision
from defectloc.localization.calibration import probability

if TYPE_CHECKING:
    from defectloc.attribution.subject import Subject


@dataclass(frozen=True)
class Answer:
    """The probability of each class `(K,)`, and the index of the one that is taken."""

    chances: np.ndarray
    predicted: int


def answer(subject: "Subject", image: np.ndarray, decision: Decision) -> Answer:
    """Ask about an image `(H, W, 3)`; a run's two classes by its own threshold and temperature."""
    import torch

    from defectloc.attribution.subject import undisturbed

    with undisturbed(subject.network), torch.no_grad():
        logits = subject.logits(resize(image, subject.image_size)[None])[0].cpu().double()
    if subject.classes != [GOOD, ANOMALY]:
        chances = logits.softmax(0).numpy()
        return Answer(chances, int(chances.argmax()))
    chance = float(probability(float(logits[1] - logits[0]), decision.temperature))
    return Answer(np.array([1 - chance, chance]), int(chance > decision.threshold))


def targets_of(wanted: str | None, classes: list[str], said: Answer) -> list[int]:
    """Give the indices of the classes to explain: 'predicted', 'top3', an index, or a name; None: a run's anomaly.

    Raises DefectlocError, with what is near, for a class that is not there.
    """
    is_run = classes == [GOOD, ANOMALY]
    if wanted is None:
        return [1] if is_run else [said.predicted]
    if wanted == "predicted":
        return [said.predicted]
    if wanted == "top3":
        return [int(i) for i in np.argsort(-said.chances, kind="stable")[:3]]
    if wanted.isdigit() and int(wanted) < len(classes):
        return [int(wanted)]
    by_name = {name.lower(): index for index, name in reversed(list(enumerate(classes)))}
    if wanted.lower() in by_name:
        return [by_name[wanted.lower()]]
    if is_run:
        raise DefectlocError(f"target={wanted} is not known; choose one of anomaly, good, predicted.")
    near = difflib.get_close_matches(wanted.lower(), by_name, 3, 0.5)
    near += [name for name in by_name if wanted.lower() in name and name not in near][:3]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise DefectlocError(
        f"target={wanted} is no class of this network; give predicted, top3, an index from 0 to {len(classes) - 1}, "
        f"or a name.{hint}"
    )
