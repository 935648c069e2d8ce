"""What a fit starts from, read and checked: data, split, weights, tiles."""

import sys
from pathlib import Path

from defectloc.config import TrainSettings
from defectloc.data import sources, splits
from defectloc.data.digests import Digests
from defectloc.errors import DefectlocError
from defectloc.localization.normalization import SCALED
from defectloc.model import device as devices
from defectloc.model import weights
from defectloc.model.levels import IMAGE
from defectloc.model.tiled_levels import tiling_of
from defectloc.model.trunk import Trunk
from defectloc.runs.fold import Fold


def prepare(settings: TrainSettings) -> Fold:
    """Read the data, split it and load the weights; the cheap checks come first."""
    digests = Digests(Path(settings.outputs).expanduser() / ".digests")
    root, whole = sources.load_whole(settings.data, settings.subset, digests)
    catalog = sources.used(whole, settings.data, settings.subset)
    catalog = catalog.assign(split=splits.split(catalog, settings.data, settings.n_folds, settings.fold))
    device = devices.choose(settings.device)
    devices.prepare(device, settings.threads)
    classifier, digest, origin = weights.build(settings.model, settings.seed)
    print(f"{settings.subset} fold {settings.fold}: {settings.model.name}, {origin}", file=sys.stderr)
    precision = str(settings.training.precision)
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    fold = Fold(settings, root, catalog, list(whole["path"]), digests, classifier, digest, device, precision)
    if IMAGE in fold.bank_levels:
        raise DefectlocError("memory.levels takes levels of the frozen part; 'image' is none.")
    classifier.require(fold.bank_levels)
    if settings.data.tiles != "none":
        trunk = Trunk(classifier, device, precision)
        fold.tiling = tiling_of(settings, fold.sizes.values(), classifier, fold.bank_levels, trunk)
    _check_network(fold)
    scaled = fold.needs_fusion or settings.localization.normalization in SCALED
    if scaled and fold.rows(splits.VALIDATION).query("label == 0").empty:
        raise DefectlocError(
            "the validation split has no good image to scale maps by; add good images, or use localization=cam."
        )
    return fold


def _check_network(fold: Fold) -> None:
    """Refuse a class network where there is none to fit, and inputs that it cannot take; say what it sees."""
    if not fold.classifier.has_class_map and fold.asks_for_class:
        raise DefectlocError(
            f"localization.map=cam and decision.score=class are unavailable, since {fold.without_class_network}; "
            "use localization=fusion or memory."
        )
    if fold.tiling is not None and not fold.has_class_network:
        return
    side = fold.settings.data.image_size
    squares = ""
    if isinstance(fold.image_size, list) and isinstance(side, int):
        height, width = fold.image_size
        by = "" if fold.tiling is None else " by the class network"
        squares = f"for squares say data.image_size=[{side},{side}]"
        seen = f"photographs are seen{by} at {width} x {height} px, by the median of their aspect ratios"
        more = f"{height * width / side**2:.1f} times the pixels of a square; {squares}"
        print(f"data.image_size={side} is the shorter side: {seen}, {more}", file=sys.stderr)
    try:
        fold.classifier.check_size(fold.image_size, fold.bank_levels)
    except DefectlocError as error:
        raise DefectlocError(f"{error}; {squares}" if squares else str(error)) from error
