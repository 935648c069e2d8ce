"""Checks of values that need no image and no network, made before anything else is loaded."""

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from defectloc.config import (
    AttributionConfig,
    Backbone,
    BoxConfig,
    CacheSettings,
    DataSettings,
    DecisionConfig,
    EvaluateSettings,
    ExplainSettings,
    ExportSettings,
    FitSettings,
    Library,
    LocalizationConfig,
    LocalizeSettings,
    MapKind,
    ModelConfig,
    PredictSettings,
    Score,
    Upsampling,
)
from defectloc.data_checks import check_data
from defectloc.errors import DefectlocError
from defectloc.localization.normalization import SCALED, check_threshold, cut_of, threshold_range
from defectloc.ranges import (
    MOST_THREADS,
    check_numbers,
    is_positive,
    positive,
)

# A day: longer than a camera writes a file.
MOST_SECONDS = 86400


# Of commands that see maps without a run.
OF_OTHERS = "this command has none, so choose minmax, max, ivr or none"


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its checked dataclass; raises DefectlocError on a value out of range."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise DefectlocError(f"'{missing[0]}' is not given; type {missing[0]}=... on the command line.")
    settings: Any = OmegaConf.to_object(config)
    check_numbers(settings)
    if isinstance(settings, FitSettings):
        _check_model(settings.model)
        _check_train(settings)
    if isinstance(settings, CacheSettings):
        _check_cache(settings)
    if isinstance(settings, DataSettings | FitSettings):
        check_data(settings.data)
    if isinstance(settings, LocalizeSettings | FitSettings):
        check_localization(settings.localization, settings.decision)
    if isinstance(settings, ExplainSettings):
        _check_explain(settings)
    if isinstance(settings, PredictSettings) and not 0 <= settings.settle <= MOST_SECONDS:
        raise DefectlocError(f"settle={settings.settle} must lie in [0, {MOST_SECONDS}]: seconds.")
    if isinstance(settings, ExportSettings) and settings.compare < 0:
        raise DefectlocError(f"compare={settings.compare} must not be negative; 0 compares nothing.")
    if isinstance(settings, EvaluateSettings):
        _check_boxes(settings.localization)
        _check_unscaled(settings.localization, OF_OTHERS)
    if isinstance(settings, FitSettings):
        _check_class_network(settings)
    if isinstance(settings, FitSettings) and settings.data.validation == 0:
        _check_without_validation(settings)
    return settings


def _check_class_network(settings: FitSettings) -> None:
    """Refuse its map and its score where none is fitted."""
    if settings.data.n_defective == 0:
        why = "data.n_defective=0: without a defective image nothing learns to tell the classes apart"
    elif settings.training.epochs == 0:
        why = "training.epochs=0 (training=none), which leaves the class network out"
    else:
        return
    given = {"localization.map": settings.localization.map, "decision.score": settings.decision.score}
    for key, value in given.items():
        if value in ("cam", "class"):
            raise DefectlocError(f"{key}={value} is unavailable with {why}; use localization=fusion.")


def _check_model(model: ModelConfig) -> None:
    if model.library == Library.defectloc and model.name not in list(Backbone):
        raise DefectlocError(
            f"model.name={model.name} is not known; choose one of {', '.join(Backbone)}, or model=timm model.name=NAME."
        )


def _check_cache(settings: CacheSettings) -> None:
    for key in ("unused_days", "limit_gb"):
        value = getattr(settings, key)
        if value is not None and not value >= 0:
            raise DefectlocError(f"{key}={value} must not be negative.")
    if settings.limit_gb is not None and (settings.key is not None or settings.unused_days is not None):
        raise DefectlocError("limit_gb goes by the last use over all keys; give it without key and unused_days.")


def _check_explain(settings: ExplainSettings) -> None:
    _check_boxes(settings.localization)
    _check_unscaled(settings.localization, OF_OTHERS)
    if settings.scale not in ("sheet", "image") and not is_positive(settings.scale):
        raise DefectlocError(f"scale={settings.scale} must be sheet, image or a number above 0.")
    _check_attribution(settings.attribution)
    if settings.compare and (settings.n, settings.target, settings.select) != (None, None, "all"):
        raise DefectlocError("compare=true samples its own images, for the anomaly; give neither n, select nor target.")
    for key in ("images", "images_perturbation", "steps_faithfulness"):
        positive(f"comparison.{key}", getattr(settings.comparison, key))
    for key in ("images_faithfulness", "images_sanity"):
        if getattr(settings.comparison, key) < 0:
            raise DefectlocError(f"comparison.{key} must not be negative.")
    for key in ("opacity", "photo_opacity"):
        value = getattr(settings, key)
        if value is not None and not 0 <= value <= 1:
            raise DefectlocError(f"{key}={value} must lie in [0, 1].")


def _check_attribution(attribution: AttributionConfig) -> None:
    for key, value in vars(attribution).items():
        if not isinstance(value, str) and key != "noise":
            positive(f"attribution.{key}", value)
    if attribution.window > 1:
        raise DefectlocError(f"attribution.window={attribution.window} must be at most 1.")
    if not 0 <= attribution.noise < math.inf:
        raise DefectlocError(f"attribution.noise={attribution.noise} must be a number of at least 0.")


def _check_train(settings: FitSettings) -> None:
    n_folds = settings.n_folds if settings.data.split == "kfold" else 1
    if settings.data.split == "kfold" and n_folds < 2:
        raise DefectlocError(f"n_folds={n_folds} must be at least 2.")
    if not 0 <= settings.fold < n_folds:
        raise DefectlocError(
            f"fold={settings.fold} is out of range; data.split={settings.data.split} has folds 0 to {n_folds - 1}."
        )
    if not 0 <= settings.features.workers <= MOST_THREADS:
        raise DefectlocError(f"features.workers={settings.features.workers} must lie in [0, {MOST_THREADS}].")
    positive("features.batch_size", settings.features.batch_size)
    if settings.features.limit_gb is not None:
        positive("features.limit_gb", settings.features.limit_gb)
    for key in ("dims", "budget_mb"):
        positive(f"memory.{key}", getattr(settings.memory, key))
    positive("patch_head.steps", settings.patch_head.steps)
    masks = settings.supervision.masks
    if masks != "all" and (not isinstance(masks, int) or isinstance(masks, bool) or masks < 0):
        raise DefectlocError(f"supervision.masks={masks} must be 'all' or a number, 0 or more.")
    training = settings.training
    if training.keep == "validation" and settings.data.validation == 0:
        raise DefectlocError("training.keep=validation needs a validation split; set data.validation above 0.")
    if settings.augmentation.views and settings.augmentation.transforms:
        raise DefectlocError("augmentation has views and transforms; choose one, since only views can be stored.")
    if training.epochs < 0:
        raise DefectlocError(f"training.epochs={training.epochs} must not be negative; 0 leaves the class network out.")
    for key in ("batch_size", "learning_rate", "target_train_accuracy", "patience"):
        positive(f"training.{key}", getattr(training, key))
    weights = training.class_weights
    if weights != "balanced":
        numbers = isinstance(weights, list) and len(weights) == 2
        if not numbers or not all(isinstance(w, int | float) and 0 < w < math.inf for w in weights):
            raise DefectlocError(
                f"training.class_weights={weights} must be 'balanced' or two numbers above 0: [good, defective]."
            )
        training.class_weights = [float(weight) for weight in weights]


def _check_unscaled(boxes: BoxConfig, instead: str) -> None:
    _refuse_without_validation(
        {f"localization.normalization={boxes.normalization}": boxes.normalization in SCALED}, instead
    )


def _check_without_validation(settings: FitSettings) -> None:
    """What is chosen or calibrated is chosen on the validation split; without one only fixed values are allowed."""
    if settings.localization.map == "fusion":
        raise DefectlocError(
            "localization.map=fusion needs a validation split; set data.validation above 0, or use localization=cam "
            "decision.threshold_from=fixed decision.calibrate=false."
        )
    instead = "set data.validation above 0, or choose a fixed value instead"
    _check_unscaled(settings.localization, instead)
    localization, decision = settings.localization, settings.decision
    _refuse_without_validation(
        {
            f"localization.threshold_from={localization.threshold_from}": localization.threshold_from != "fixed",
            f"decision.threshold_from={decision.threshold_from}": decision.threshold_from != "fixed",
            "decision.calibrate=true": decision.calibrate,
            "decision.prevalence": decision.prevalence is not None,
            f"decision.score={decision.score}": decision.score != "class",
        },
        instead,
    )


def _refuse_without_validation(chosen: dict[str, bool], instead: str) -> None:
    for key, needs_validation in chosen.items():
        if needs_validation:
            raise DefectlocError(f"{key} needs a validation split; {instead}.")


def _check_boxes(boxes: BoxConfig) -> None:
    # Written out, so that settings that were typed and those that follow are one.
    boxes.threshold, boxes.min_peak = cut_of(boxes)
    check_threshold(boxes.normalization, boxes.threshold)
    for key in ("min_area", "merge_distance"):
        if not 0 <= getattr(boxes, key) < math.inf:
            raise DefectlocError(f"localization.{key}={getattr(boxes, key)} must be at least 0 and finite.")
    peak, highest = boxes.min_peak, threshold_range(boxes.normalization)[1]
    if peak is not None and not (math.isfinite(peak) and peak <= highest):
        raise DefectlocError(
            f"localization.min_peak={peak} must be a value that localization.normalization="
            f"{boxes.normalization} can give, {highest:g} at most, or null."
        )
    if boxes.max_boxes is not None:
        positive("localization.max_boxes", boxes.max_boxes)


def check_localization(localization: LocalizationConfig, decision: DecisionConfig) -> None:
    """Refuse thresholds that do not fit, and let score and upsampling follow the map unless they are given."""
    is_cam = localization.map == MapKind.cam
    if decision.score is None:
        decision.score = Score["class" if is_cam else str(localization.map)]
    # Written out, since the localizations of runs from before there was a choice lack the key, and are bilinear.
    if localization.upsampling is None:
        localization.upsampling = Upsampling.bilinear if is_cam else Upsampling.guided
    _check_boxes(localization)
    if not 0 < localization.quantile <= 1:
        raise DefectlocError(f"localization.quantile={localization.quantile} must lie in (0, 1].")
    if not 0 < decision.threshold < 1:
        raise DefectlocError(f"decision.threshold={decision.threshold} must lie between 0 and 1: it is a probability.")
    if decision.prevalence is not None and not 0 < decision.prevalence < 1:
        raise DefectlocError(f"decision.prevalence={decision.prevalence} must lie between 0 and 1: a share of parts.")
    for key in ("max_escape_rate", "max_overkill_rate"):
        rate = getattr(decision, key)
        if rate is not None and decision.threshold_from == "fixed":
            raise DefectlocError(f"decision.{key} needs decision.threshold_from=validation.")
        if rate is not None and not 0 <= rate <= 1:
            raise DefectlocError(f"decision.{key}={rate} must lie in [0, 1].")
