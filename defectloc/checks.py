"""Checks of values that need no image and no network, made before anything else is loaded."""

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from defectloc.config import (
    KCENTER_POOL,
    AttributionConfig,
    CacheSettings,
    DataConfig,
    DataSettings,
    DecisionConfig,
    EvaluateSettings,
    ExplainSettings,
    LocalizationConfig,
    LocalizeSettings,
    MemoryConfig,
    TrainSettings,
)
from defectloc.errors import DefectlocError
from defectloc.localization.normalization import METHODS, check_threshold, threshold_range

BACKBONES = ("vgg16", "resnet50", "densenet121")


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its checked dataclass; raises DefectlocError on a value out of range."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise DefectlocError(f"'{missing[0]}' is not given; type {missing[0]}=... on the command line.")
    settings = OmegaConf.to_object(config)
    if isinstance(settings, TrainSettings):
        _check_train(settings)
    if isinstance(settings, CacheSettings):
        _check_cache(settings)
    if isinstance(settings, DataSettings | TrainSettings):
        _check_data(settings.data)
    if isinstance(settings, LocalizeSettings | TrainSettings):
        _check_localization(settings.localization, settings.decision)
    if isinstance(settings, ExplainSettings):
        _check_explain(settings)
    if isinstance(settings, EvaluateSettings):
        _check_localization(settings.localization, DecisionConfig())
        _check_fixed(settings.localization, DecisionConfig())
    if isinstance(settings, TrainSettings) and settings.data.n_defective == 0:
        _check_unlabelled(settings)
    if isinstance(settings, TrainSettings) and settings.data.validation == 0:
        _check_fixed(settings.localization, settings.decision)
        _check_map_of_fixed(settings.localization, settings.decision)
    return settings


def _check_unlabelled(settings: TrainSettings) -> None:
    asked = {"localization.map": settings.localization.map, "decision.score": str(settings.decision.score)}
    for key, value in asked.items():
        if value != "memory":
            raise DefectlocError(
                f"{key}={value} is unavailable with data.n_defective=0: without a defective image nothing learns "
                "to tell the classes apart; use localization.map=memory."
            )


def _check_cache(settings: CacheSettings) -> None:
    for key in ("unused_days", "limit_gb"):
        value = getattr(settings, key)
        if value is not None and value < 0:
            raise DefectlocError(f"{key}={value} must not be negative.")
    if settings.limit_gb is not None and (settings.key is not None or settings.unused_days is not None):
        raise DefectlocError("limit_gb goes by the last use over all keys; give it without key and unused_days.")


def _check_explain(settings: ExplainSettings) -> None:
    _check_localization(settings.localization, DecisionConfig())
    _check_fixed(settings.localization, DecisionConfig())
    _one_of("device", settings.device, ("auto", "cpu", "cuda", "mps"))
    if settings.scale not in ("sheet", "image") and not _is_positive(settings.scale):
        raise DefectlocError(f"scale={settings.scale} must be sheet, image or a number above 0.")
    _check_attribution(settings.attribution)
    if settings.compare and (settings.n, settings.target, settings.select) != (None, None, "all"):
        raise DefectlocError("compare=true draws its own images, for the anomaly; give neither n, select nor target.")
    if settings.seed < 0:
        raise DefectlocError(f"seed={settings.seed} must not be negative.")
    for key in ("n", "threads", "columns"):
        if getattr(settings, key) is not None:
            _positive(key, getattr(settings, key))
    for key in ("cheap", "perturbation", "faithfulness_steps"):
        _positive(f"comparison.{key}", getattr(settings.comparison, key))
    for key in ("faithfulness", "sanity"):
        if getattr(settings.comparison, key) < 0:
            raise DefectlocError(f"comparison.{key} must not be negative.")
    for key in ("opacity", "photo_opacity"):
        value = getattr(settings, key)
        if value is not None and not 0 <= value <= 1:
            raise DefectlocError(f"{key}={value} must lie in [0, 1].")


def _check_attribution(attribution: AttributionConfig) -> None:
    _one_of("attribution.lime_hide", attribution.lime_hide, ("blur", "mean"))
    _one_of("attribution.superpixels", attribution.superpixels, ("slic", "quickshift"))
    _one_of("attribution.shap_masker", attribution.shap_masker, ("blur", "inpaint"))
    for key, value in vars(attribution).items():
        if not isinstance(value, str) and key != "noise":
            _positive(f"attribution.{key}", value)
    for key in ("window", "stride"):
        if getattr(attribution, key) > 1:
            raise DefectlocError(f"attribution.{key}={getattr(attribution, key)} must be at most 1.")
    if attribution.noise < 0:
        raise DefectlocError(f"attribution.noise={attribution.noise} must not be negative.")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DefectlocError(f"{key}={value} is not known; choose one of {', '.join(allowed)}.")


def _positive(key: str, value: float) -> None:
    if not value > 0:
        raise DefectlocError(f"{key}={value} must be greater than 0.")


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _check_data(data: DataConfig) -> None:
    _one_of("data.split", data.split, ("kfold", "official", "given"))
    if data.image_size <= 0 or data.image_size % 32:
        raise DefectlocError(f"data.image_size={data.image_size} must be a multiple of 32, for example 224.")
    if not 0 <= data.validation < 1:
        raise DefectlocError(f"data.validation={data.validation} must lie in [0, 1): a share of each training fold.")
    if not 0 <= data.min_confidence <= 1:
        raise DefectlocError(f"data.min_confidence={data.min_confidence} must lie in [0, 1].")
    if data.split_seed < 0:
        raise DefectlocError(f"data.split_seed={data.split_seed} must not be negative.")
    if data.limit is not None:
        _positive("data.limit", data.limit)
    if data.n_defective is not None and data.split != "official":
        raise DefectlocError("data.n_defective needs data.split=official: it moves test defects to the training part.")
    if data.n_defective is not None and data.n_defective < 0:
        raise DefectlocError(f"data.n_defective={data.n_defective} must not be negative.")


def _check_train(settings: TrainSettings) -> None:
    n_folds = settings.n_folds if settings.data.split == "kfold" else 1
    if settings.data.split == "kfold" and n_folds < 2:
        raise DefectlocError(f"n_folds={n_folds} must be at least 2.")
    if not 0 <= settings.fold < n_folds:
        raise DefectlocError(
            f"fold={settings.fold} is out of range; data.split={settings.data.split} has folds 0 to {n_folds - 1}."
        )
    if settings.threads is not None:
        _positive("threads", settings.threads)
    if settings.seed < 0:
        raise DefectlocError(f"seed={settings.seed} must not be negative.")
    if settings.features.workers < 0:
        raise DefectlocError(f"features.workers={settings.features.workers} must not be negative.")
    _positive("features.batch_size", settings.features.batch_size)
    _check_memory(settings.memory)
    _one_of("device", settings.device, ("auto", "cpu", "cuda", "mps"))
    _one_of("model", settings.model.name, BACKBONES)
    _one_of("model.preprocessing", settings.model.preprocessing, ("auto", "oxford", "torchvision"))
    _one_of("features.dtype", settings.features.dtype, ("float16", "float32"))
    training = settings.training
    _one_of("training.precision", training.precision, ("auto", "float32", "bfloat16"))
    _one_of("training.start", training.start, ("random", "logistic"))
    _one_of("training.schedule", training.schedule, ("constant", "onecycle"))
    _one_of("training.keep", training.keep, ("last", "validation"))
    if training.keep == "validation" and settings.data.validation == 0:
        raise DefectlocError("training.keep=validation needs a validation part; set data.validation above 0.")
    if settings.features.limit_gb is not None:
        _positive("features.limit_gb", settings.features.limit_gb)
    views = settings.augmentation.views
    for view in views:
        _one_of("augmentation.views", view, ("plain", "horizontal", "vertical", "both"))
    if views and settings.augmentation.transforms:
        raise DefectlocError("augmentation has views and transforms; choose one, since only views can be stored.")
    for key in ("epochs", "batch_size", "learning_rate", "target_train_accuracy", "patience"):
        _positive(f"training.{key}", getattr(training, key))
    weights = training.class_weights
    if weights != "balanced":
        numbers = isinstance(weights, list) and len(weights) == 2
        if not numbers or not all(isinstance(w, int | float) and w > 0 for w in weights):
            raise DefectlocError(
                f"training.class_weights={weights} must be 'balanced' or two numbers above 0: [good, defective]."
            )
        training.class_weights = [float(weight) for weight in weights]


def _check_memory(memory: MemoryConfig) -> None:
    if "image" in memory.levels:
        raise DefectlocError("memory.levels takes levels of the frozen part; 'image' is none.")
    _positive("memory.dims", memory.dims)
    _positive("memory.budget_mb", memory.budget_mb)
    _one_of("memory.reduction", memory.reduction, ("random", "pca"))
    _one_of("memory.sampling", memory.sampling, ("random", "kcenter"))
    if not 0 <= memory.position < float("inf"):
        raise DefectlocError(f"memory.position={memory.position} must be 0 or a finite weight above 0.")
    room = memory.budget_mb * 2**20 / (4 * memory.dims)
    if memory.sampling == "kcenter" and room >= KCENTER_POOL:
        raise DefectlocError(
            f"memory.sampling=kcenter picks from {KCENTER_POOL} patches, and memory.budget_mb={memory.budget_mb} holds "
            "as many: nothing is left to choose; lower the budget, or use memory.sampling=random."
        )


def _check_fixed(localization: LocalizationConfig, decision: DecisionConfig) -> None:
    """What is chosen is chosen on the validation part; without one only fixed values are allowed."""
    chosen = {
        f"localization.threshold_from={localization.threshold_from}": localization.threshold_from != "fixed",
        "localization.normalization=good": localization.normalization == "good",
        f"decision.threshold_from={decision.threshold_from}": decision.threshold_from != "fixed",
        "decision.calibrate=true": decision.calibrate,
    }
    _refuse_without_validation(chosen)


def _check_map_of_fixed(localization: LocalizationConfig, decision: DecisionConfig) -> None:
    """Memory and labels come to one scale, and scores to log-odds, on the validation part."""
    made = {
        "localization.map=fusion": localization.map == "fusion",
        f"decision.score={decision.score}": decision.score != "class",
    }
    _refuse_without_validation(made)


def _refuse_without_validation(chosen: dict[str, bool]) -> None:
    for key, needs_validation in chosen.items():
        if needs_validation:
            raise DefectlocError(
                f"{key} needs a validation part; set data.validation above 0, or choose a fixed value instead."
            )


def _check_localization(localization: LocalizationConfig, decision: DecisionConfig) -> None:
    """Refuse thresholds that do not fit; raises DefectlocError."""
    _one_of("localization.map", localization.map, ("cam", "memory", "fusion"))
    _one_of("localization.normalization", localization.normalization, METHODS)
    _one_of("localization.threshold_from", localization.threshold_from, ("fixed", "good_quantile", "validation"))
    _one_of("localization.boxes", localization.boxes, ("single", "components"))
    if decision.score is None:
        decision.score = "class" if localization.map == "cam" else localization.map
    _one_of("decision.score", decision.score, ("class", "memory", "fusion"))
    check_threshold(localization.normalization, localization.threshold)
    if not 0 < localization.quantile <= 1:
        raise DefectlocError(f"localization.quantile={localization.quantile} must lie in (0, 1].")
    for key in ("min_area", "merge_distance"):
        if getattr(localization, key) < 0:
            raise DefectlocError(f"localization.{key}={getattr(localization, key)} must not be negative.")
    peak, highest = localization.min_peak, threshold_range(localization.normalization)[1]
    if peak is not None and not (math.isfinite(peak) and peak <= highest):
        raise DefectlocError(
            f"localization.min_peak={peak} must be a value that localization.normalization="
            f"{localization.normalization} can give, {highest:g} at most, or null."
        )
    if localization.max_boxes is not None:
        _positive("localization.max_boxes", localization.max_boxes)
    _one_of("decision.threshold_from", decision.threshold_from, ("fixed", "validation"))
    if not 0 < decision.threshold < 1:
        raise DefectlocError(f"decision.threshold={decision.threshold} must lie between 0 and 1: it is a probability.")
    for key in ("max_escape_rate", "max_overkill_rate"):
        rate = getattr(decision, key)
        if rate is not None and decision.threshold_from == "fixed":
            raise DefectlocError(f"decision.{key} needs decision.threshold_from=validation.")
        if rate is not None and not 0 <= rate <= 1:
            raise DefectlocError(f"decision.{key}={rate} must lie in [0, 1].")
