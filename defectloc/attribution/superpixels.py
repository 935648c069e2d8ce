"""LIME: a linear model of the score in the superpixels that are shown (Ribeiro et al. 2016), by Captum."""

import numpy as np
import torch

from defectloc.attribution.hiding import blurred
from defectloc.attribution.network import ClassScore
from defectloc.config import AttributionConfig

# As in the lime package's image explainer.
KERNEL_WIDTH, RIDGE = 0.25, 1.0


def segment(image: np.ndarray, config: AttributionConfig) -> np.ndarray:
    """Cut an image `(H, W, 3)` in 0..255 into superpixels `(H, W)`, numbered from 0."""
    from skimage.segmentation import quickshift, slic

    scaled = np.clip(image / 255, 0, 1)
    if config.superpixels == "slic":
        found = slic(scaled, n_segments=config.n_superpixels, compactness=10, sigma=1, start_label=0)
    else:
        # The settings of the lime package; its kernel is for images of about 224 px.
        found = quickshift(scaled, kernel_size=4, max_dist=200, ratio=0.2, rng=0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def _means(image: torch.Tensor, segments: np.ndarray) -> torch.Tensor:
    places = segments.ravel()
    sizes = np.bincount(places)
    means = [np.bincount(places, color.ravel()) / sizes for color in image[0].cpu().numpy()]
    return torch.from_numpy(np.stack([mean[segments] for mean in means])[None]).to(image)


def kernel(shown: torch.Tensor) -> torch.Tensor:
    """Weigh samples `(N, K)` of 0/1 per superpixel by how near they are to the whole image: `(N,)` in (0, 1].

    The lime package's `sqrt(exp(-d^2 / width^2))`, with d the cosine distance from a vector of ones.
    """
    distance = 1 - shown.mean(1).sqrt()
    return torch.exp(-(distance**2) / KERNEL_WIDTH**2).sqrt()


def lime(
    score: ClassScore, image: torch.Tensor, config: AttributionConfig, seed: int
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Give each superpixel's weight `(1, H, W)` for one image, and the `segments` `(H, W)`.

    A hidden superpixel becomes what a strong blur leaves there, or its own mean colour, as in the lime package; that
    hides nothing where superpixels follow a dark crack. Samples are weighted by `kernel`.
    """
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime

    pixels = image[0].permute(1, 2, 0).cpu().numpy()
    segments = segment(pixels, config)
    hidden = blurred(image, 0.25) if config.lime_hide == "blur" else _means(image, segments)

    def similarity(_image: object, _perturbed: object, shown: torch.Tensor, **_: object) -> torch.Tensor:
        return kernel(shown.float())[0]

    method = Lime(score, SkLearnRidge(alpha=RIDGE), similarity)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = method.attribute(
            image,
            baselines=hidden,
            feature_mask=torch.from_numpy(segments)[None, None].to(image.device).expand(1, 3, -1, -1),
            n_samples=config.lime_samples,
            perturbations_per_eval=config.batch_size,
        )
    return found[:, 0], {"segments": segments.astype(np.int32)}
