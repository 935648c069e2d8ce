"""The typed schema of every key, and where the YAML lies."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

# Of so many patches, drawn at random, memory.sampling=kcenter picks its bank; its time goes with this times the budget:
# half a minute on one core at 8 MB.
KCENTER_POOL = 2**15


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
    # the head: random, or a logistic regression on the pooled output of the untouched tail
    start: str = "random"
    # the learning rate: constant, or onecycle with `learning_rate` as its peak
    schedule: str = "constant"
    # the epoch whose weights are kept: the last, or by the lowest loss on the validation part, for which the fit waits
    # `patience` epochs
    keep: str = "last"
    patience: int = 1


@dataclass
class AugmentationConfig:
    """Changes to training images: a random pipeline of albumentations, or a finite set of views; empty: none."""

    name: str = "none"
    transforms: list[Any] = field(default_factory=list)
    # of plain, horizontal, vertical, both
    views: list[str] = field(default_factory=list)


@dataclass
class FeaturesConfig:
    """The store of the frozen trunk's outputs."""

    cache: bool = True
    # above this the least recently used features are removed; null: never
    limit_gb: float | None = None
    dtype: str = "float16"
    batch_size: int = 8
    workers: int = 2


@dataclass
class MemoryConfig:
    """The memory of good parts, for localization.map=memory or fusion."""

    # of the trunk; empty: the backbone's own
    levels: list[str] = field(default_factory=list)
    dims: int = 128
    budget_mb: float = 8.0
    reduction: str = "random"
    sampling: str = "random"
    position: float = 0.0


@dataclass
class LocalizationConfig:
    """From a map to boxes; the values here are those of `evaluate` and of the case study, `train`'s are in `conf/`."""

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
    # what a region must reach somewhere, in the unit of the normalised map; the hottest one always counts
    min_peak: float | None = None
    max_boxes: int | None = None
    merge_distance: float = 0.0


@dataclass
class DecisionConfig:
    """From a score to good or defective."""

    # class | memory | fusion; null: the map's own, which is class for cam
    score: str | None = "class"
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
    memory: MemoryConfig = field(default_factory=MemoryConfig)
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
class CacheSettings(Settings):
    """`python -m defectloc.cache`."""

    prune: bool = False
    key: str | None = None
    unused_days: float | None = None
    limit_gb: float | None = None


@dataclass
class BenchmarkConfig:
    """How much `python -m defectloc.benchmark` measures; what it leaves out is extrapolated, and marked."""

    limit: int | None = None
    steps: int = 6
    epochs: int = 10
    folds: int = 5
    shares: list[float] = field(default_factory=lambda: [0.25, 0.5, 1.0])
    image_sizes: list[int] = field(default_factory=lambda: [224, 448])
    memory_images: list[int] = field(default_factory=lambda: [400, 4000])


@dataclass
class BenchmarkSettings(TrainSettings):
    """`python -m defectloc.benchmark`."""

    output: str | None = None
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)


@dataclass
class DataSettings(Settings):
    """`python -m defectloc.overview` and `python -m defectloc.fetch`."""

    subset: str = MISSING
    output: str | None = None
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class TorchvisionConfig:
    """A published classifier of torchvision, explained without a run; no name: none."""

    name: str | None = None
    # imagenet, or a file
    weights: str = "imagenet"
    # only there to be refused by name: networks to be fitted have it
    trainable_from: str | None = None


@dataclass
class AttributionConfig:
    """What a method of attribution may spend, and what it is made of."""

    # images through the network at once, without and with gradients; they bound the memory
    chunk: int = 16
    gradient_chunk: int = 8
    # images along the way from nothing to the image; noisy copies; pairs of background image and place on the way
    steps: int = 24
    smooth_samples: int = 24
    expected_samples: int = 48
    background: int = 8
    # standard deviation of the noise, in grey levels of 0..255
    noise: float = 20.0
    # side and step of the grey square, as shares of the image
    window: float = 0.143
    stride: float = 0.0715
    lime_samples: int = 200
    lime_hide: str = "blur"
    superpixels: str = "slic"
    n_superpixels: int = 60
    shap_evaluations: int = 200
    shap_masker: str = "blur"
    rise_masks: int = 400
    rise_cells: int = 7
    # of Score-CAM: the channels with the strongest activations
    score_channels: int = 64
    # on either side of the figure of channels
    shown_channels: int = 4


@dataclass
class CompareConfig:
    """On how many images `compare=true` measures; the images of a smaller number are the first of a larger one."""

    methods: list[str] = field(default_factory=list)
    # of each class
    cheap: int = 25
    perturbation: int = 10
    faithfulness: int = 10
    faithfulness_steps: int = 20
    sanity: int = 3


@dataclass
class ExplainSettings(Settings):
    """`python -m defectloc.explain`."""

    run: str | None = None
    model: TorchvisionConfig = field(default_factory=TorchvisionConfig)
    method: str = "gradcam"
    images: str | None = None
    root: str | None = None
    output: str | None = None
    n: int | None = None
    select: str = "all"
    seed: int = 0
    target: str | None = None
    layer: str | None = None
    compare: bool = False
    threads: int | None = None
    device: str = "auto"
    scale: str = "sheet"
    colormap: str = "inferno"
    opacity: float = 0.65
    photo_opacity: float | None = None
    columns: int = 3
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    comparison: CompareConfig = field(default_factory=CompareConfig)
    localization: LocalizationConfig = field(default_factory=LocalizationConfig)


SETTINGS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "localize": LocalizeSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "summarize": SummarizeSettings,
    "overview": DataSettings,
    "cache": CacheSettings,
    "benchmark": BenchmarkSettings,
    "explain": ExplainSettings,
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
