"""What a network predicts for an image, and which of its classes is explained."""

import difflib
from dataclasses import dataclass

import numpy as np
import torch

from defectloc.attribution.network import ExplainedModel, undisturbed
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError

# The two classes of a run's class network.
GOOD, ANOMALY = "good", "anomaly"


@dataclass(frozen=True)
class ClassPrediction:
    """The probability of each class `(K,)`, and the index of the predicted one."""

    probabilities: np.ndarray
    predicted: int


def predict(model: ExplainedModel, image: np.ndarray) -> ClassPrediction:
    """Predict an image `(H, W, 3)` by the softmax of the network's logits."""
    with undisturbed(model.network), torch.no_grad():
        logits = model.logits(resize(image, model.image_size)[None])[0].cpu().double()
    probabilities = logits.softmax(0).numpy()
    return ClassPrediction(probabilities, int(probabilities.argmax()))


def targets_of(wanted: str | None, classes: list[str], prediction: ClassPrediction) -> list[int]:
    """Give the indices of the classes to explain: 'predicted', 'top3', an index, or a name; None: a run's anomaly.

    Raises DefectlocError, with similar names, for a class that is not there.
    """
    is_run = classes == [GOOD, ANOMALY]
    if wanted is None:
        return [1] if is_run else [prediction.predicted]
    if wanted == "predicted":
        return [prediction.predicted]
    if wanted == "top3":
        return [int(i) for i in np.argsort(-prediction.probabilities, kind="stable")[:3]]
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
