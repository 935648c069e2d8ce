"""The typed schema of every key, where the YAML lies, and the checks that need no image."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from defectloc.errors import DefectlocError
from defectloc.localization.normalization import check_threshold

BACKBONES = ("vgg16", "resnet50", "densenet121")
NORMALIZATIONS = ("minmax", "max", "ivr", "none", "good")


@dataclass
class DataConfig:
    """A source of images and how it is split; `name` chooses the reader in `data/sources.py`."""

    name: str = MISSING
    root: str | None = None
    limit: int | None = None
    image_size: int = 224
    split: str = "kfold"
    split_seed: int = 42
    validation: float = 0.15
    group: str | None = None
    n_defective: int | None = None
    # folder
    good: str | None = None
    defective: str | None = None
    masks: str | None = None
    # pixels that count for no score, such as fixtures: one mask for all images, relative to the root or absolute
    ignore_mask: str | None = None
    # csv
    table: str | None = None
    # elpv: |2p - 1| of the published defect probability p; 1 keeps the cells that every expert was sure of
    min_confidence: float = 0.0
    # synthetic
    n_good: int = 120
    n_test_good: int = 20
    n_per_type: int = 12
    draw_size: int = 256
    draw_seed: int = 0
    # fetch
    url: str | None = None
    sha256: str | None = None
    keep_archive: bool = True


@dataclass
class ModelConfig:
    """The network: a backbone, where its weights come from, and from which layer on it is trained."""

    name: str = "vgg16"
    weights: str = "imagenet"
    preprocessing: str = "auto"
    trainable_from: str = "conv5_1"


@dataclass
class TrainingConfig:
    """How a fold is fitted."""

    epochs: int = 10
    batch_size: int = 10
    learning_rate: float = 1e-4
    class_weights: Any = field(default_factory=lambda: [1.0, 3.0])
    target_train_accuracy: float = 0.98
    precision: str = "auto"


@dataclass
class AugmentationConfig:
    """Random changes to training images, given to albumentations by name; empty: none."""

    name: str = "none"
    transforms: list[Any] = field(default_factory=list)


@dataclass
class FeaturesConfig:
    """The store of the frozen trunk's outputs."""

    cache: bool = True
    dtype: str = "float16"
    batch_size: int = 8
    workers: int = 2


@dataclass
class LocalizationConfig:
    """From a map to boxes."""

    map: str = "cam"
    normalization: str = "minmax"
    threshold_from: str = "fixed"
    threshold: float = 0.8
    # the share of pixels of good validation images that threshold_from=good_quantile leaves below
    quantile: float = 0.99
    # whether threshold_from=validation may look at the masks of validation images
    use_masks: bool = False
    boxes: str = "single"
    min_area: int = 0
    max_boxes: int | None = None
    merge_distance: float = 0.0


@dataclass
class DecisionConfig:
    """From a score to good or defective."""

    score: str = "class"
    threshold_from: str = "fixed"
    threshold: float = 0.5
    # with threshold_from=validation: neither for balanced accuracy, one for that limit, both for a review band
    max_escape_rate: float | None = None
    max_overkill_rate: float | None = None
    calibrate: bool = False


@dataclass
class Settings:
    """What every command has."""

    outputs: str = "outputs"


@dataclass
class TrainSettings(Settings):
    """`python -m defectloc.train`."""

    subset: str = MISSING
    fold: int = 0
    n_folds: int = 5
    seed: int = 0
    threads: int | None = None
    device: str = "auto"
    experiment: str | None = None
    figures: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    localization: LocalizationConfig = field(default_factory=LocalizationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)


@dataclass
class LocalizeSettings(Settings):
    """`python -m defectloc.localize`."""

    run: str = MISSING
    root: str | None = None
    figures: bool = False
    localization: LocalizationConfig = field(default_factory=LocalizationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)


@dataclass
class EvaluateSettings(Settings):
    """`python -m defectloc.evaluate`."""

    maps: str = MISSING
    masks: str = MISSING
    output: str | None = None
    ignore_mask: str | None = None
    localization: LocalizationConfig = field(default_factory=LocalizationConfig)


@dataclass
class PredictSettings(Settings):
    """`python -m defectloc.predict`."""

    run: str = MISSING
    images: str = MISSING
    output: str = MISSING
    threads: int | None = None
    device: str = "auto"
    batch_size: int = 8
    overlays: bool = True


@dataclass
class SummarizeSettings(Settings):
    """`python -m defectloc.summarize`."""

    output: str | None = None


@dataclass
class DataSettings(Settings):
    """`python -m defectloc.overview` and `python -m defectloc.fetch`."""

    subset: str = MISSING
    output: str | None = None
    data: DataConfig = field(default_factory=DataConfig)


SETTINGS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "localize": LocalizeSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "summarize": SummarizeSettings,
    "overview": DataSettings,
    "fetch": DataSettings,
}


def directory() -> Path:
    """Find the YAML: `conf/` beside the package in a checkout, inside the package in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register() -> None:
    """Tell Hydra the schema, so that an unknown key or a wrong type is refused by name."""
    store = ConfigStore.instance()
    for command, schema in SETTINGS.items():
        store.store(name=f"{command}_schema", node=schema)
    # The folder of a sweep's job: by what was asked, not by number, so that two sweeps do not meet.
    OmegaConf.register_new_resolver(
        "digest", lambda text: hashlib.sha256(str(text).encode()).hexdigest()[:12], replace=True
    )


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its checked dataclass; raises DefectlocError on a value out of range."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise DefectlocError(f"'{missing[0]}' is not given; type {missing[0]}=... on the command line.")
    settings = OmegaConf.to_object(config)
    if isinstance(settings, TrainSettings):
        _check_train(settings)
    if isinstance(settings, DataSettings | TrainSettings):
        _check_data(settings.data)
    if isinstance(settings, LocalizeSettings | TrainSettings):
        check_localization(settings.localization, settings.decision)
    if isinstance(settings, EvaluateSettings):
        check_localization(settings.localization, DecisionConfig())
        _check_fixed(settings.localization, DecisionConfig())
    if isinstance(settings, TrainSettings) and settings.data.validation == 0:
        _check_fixed(settings.localization, settings.decision)
    return settings


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DefectlocError(f"{key}={value} is not known; choose one of {', '.join(allowed)}.")


def _positive(key: str, value: float) -> None:
    if not value > 0:
        raise DefectlocError(f"{key}={value} must be greater than 0.")


def _check_data(data: DataConfig) -> None:
    _one_of("data.split", data.split, ("kfold", "official", "given"))
    if data.image_size <= 0 or data.image_size % 32:
        raise DefectlocError(f"data.image_size={data.image_size} must be a multiple of 32, for example 224.")
    if not 0 <= data.validation < 1:
        raise DefectlocError(f"data.validation={data.validation} must lie in [0, 1): a share of each training fold.")
    if not 0 <= data.min_confidence <= 1:
        raise DefectlocError(f"data.min_confidence={data.min_confidence} must lie in [0, 1].")
    if data.limit is not None:
        _positive("data.limit", data.limit)
    if data.n_defective is not None and data.split != "official":
        raise DefectlocError("data.n_defective needs data.split=official: it moves test defects to the training part.")


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
    _one_of("device", settings.device, ("auto", "cpu", "cuda", "mps"))
    _one_of("model", settings.model.name, BACKBONES)
    _one_of("model.preprocessing", settings.model.preprocessing, ("auto", "oxford", "torchvision"))
    _one_of("features.dtype", settings.features.dtype, ("float16", "float32"))
    training = settings.training
    _one_of("training.precision", training.precision, ("auto", "float32", "bfloat16"))
    for key in ("epochs", "batch_size", "learning_rate", "target_train_accuracy"):
        _positive(f"training.{key}", getattr(training, key))
    weights = training.class_weights
    if weights != "balanced":
        numbers = isinstance(weights, list) and len(weights) == 2
        if not numbers or not all(isinstance(w, int | float) and w > 0 for w in weights):
            raise DefectlocError(
                f"training.class_weights={weights} must be 'balanced' or two numbers above 0: [good, defective]."
            )


def _check_fixed(localization: LocalizationConfig, decision: DecisionConfig) -> None:
    """What is chosen is chosen on the validation part; without one only fixed values are allowed."""
    chosen = {
        f"localization.threshold_from={localization.threshold_from}": localization.threshold_from != "fixed",
        "localization.normalization=good": localization.normalization == "good",
        f"decision.threshold_from={decision.threshold_from}": decision.threshold_from != "fixed",
        "decision.calibrate=true": decision.calibrate,
    }
    for key, needs_validation in chosen.items():
        if needs_validation:
            raise DefectlocError(f"{key} needs a validation part; set data.validation above 0 (evaluate has none).")


def check_localization(localization: LocalizationConfig, decision: DecisionConfig) -> None:
    """Refuse thresholds that do not fit; raises DefectlocError."""
    _one_of("localization.map", localization.map, ("cam",))
    _one_of("localization.normalization", localization.normalization, NORMALIZATIONS)
    _one_of("localization.threshold_from", localization.threshold_from, ("fixed", "good_quantile", "validation"))
    _one_of("localization.boxes", localization.boxes, ("single", "components"))
    _one_of("decision.score", decision.score, ("class",))
    check_threshold(localization.normalization, localization.threshold)
    if not 0 < localization.quantile <= 1:
        raise DefectlocError(f"localization.quantile={localization.quantile} must lie in (0, 1].")
    for key in ("min_area", "merge_distance"):
        if getattr(localization, key) < 0:
            raise DefectlocError(f"localization.{key}={getattr(localization, key)} must not be negative.")
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
