"""SHAP's Partition explainer: Shapley values of recursive halves of the image (Owen values)."""

import numpy as np
import torch

from defectloc.attribution.network import ClassScore
from defectloc.config import AttributionConfig


def shap_partition(
    score: ClassScore, image: torch.Tensor, config: AttributionConfig, seed: int
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Give the values summed over colours `(1, H, W)` of one image, and the `base` score of the hidden image.

    They add up to the score less `base`. What is hidden is blurred, or painted over from its surroundings.
    """
    import shap

    side = min(image.shape[2:])
    hide = f"blur({side // 2},{side // 2})" if config.shap_masker == "blur" else "inpaint_telea"

    def scores(images: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        return score.in_batches(tensor.to(image.device), config.batch_size).cpu().numpy().astype(np.float64)

    pixels = image[0].permute(1, 2, 0).cpu().numpy()
    if config.shap_masker == "inpaint":
        # OpenCV paints whole grey levels only, so that the image itself has to have them for the values to add up.
        pixels = pixels.round()
    explainer = shap.PartitionExplainer(scores, shap.maskers.Image(hide, pixels.shape))
    state = np.random.get_state()
    try:
        # It breaks ties among the halves to be cut next by NumPy's global random numbers.
        np.random.seed(seed)
        found = explainer(pixels[None], max_evals=config.shap_evaluations, batch_size=config.batch_size, silent=True)
    finally:
        np.random.set_state(state)
    values = torch.from_numpy(np.asarray(found.values)[0].reshape(pixels.shape).sum(2)[None].astype(np.float32))
    return values, {"base": np.asarray(found.base_values, dtype=np.float64).reshape(-1)[:1]}
