"""The typed schema of every key: its default, its choices and its help text; and where the YAML lies."""

import functools
import hashlib
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


def _key(default: Any, text: str, sources: str = "") -> Any:
    """Describe a key; `sources` lists the options of `data` that have it, none for all."""
    metadata = {"help": text, "sources": sources.split()}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _group(schema: Any) -> Any:
    """Nest the keys of a schema."""
    return field(default_factory=schema)


class Source(StrEnum):
    """Readers of images."""

    mvtec = "mvtec"
    folder = "folder"
    csv = "csv"
    elpv = "elpv"
    synthetic = "synthetic"


class Split(StrEnum):
    """How images are split."""

    kfold = "kfold"
    official = "official"
    given = "given"


class Backbone(StrEnum):
    """Networks to be fitted."""

    vgg16 = "vgg16"
    resnet50 = "resnet50"
    densenet121 = "densenet121"
    efficientnet_lite0 = "efficientnet_lite0"
    efficientnet_lite1 = "efficientnet_lite1"
    efficientnet_lite2 = "efficientnet_lite2"


class Library(StrEnum):
    """Whose networks `model.name` names."""

    defectloc = "defectloc"
    timm = "timm"


class Preprocessing(StrEnum):
    """Normalisation of the network's input."""

    auto = "auto"
    oxford = "oxford"
    torchvision = "torchvision"
    lite = "lite"
    timm = "timm"


class Device(StrEnum):
    """Where torch computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """Number format of the network at work."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class StoredDtype(StrEnum):
    """Number format of stored features."""

    float16 = "float16"
    float32 = "float32"


class HeadStart(StrEnum):
    """How the head starts."""

    random = "random"
    logistic = "logistic"


class Schedule(StrEnum):
    """Learning rate over the steps of a fit."""

    constant = "constant"
    onecycle = "onecycle"


class KeptEpoch(StrEnum):
    """Which epoch's weights are kept."""

    last = "last"
    validation = "validation"


class View(StrEnum):
    """Flips of an image."""

    plain = "plain"
    horizontal = "horizontal"
    vertical = "vertical"
    both = "both"


class MapKind(StrEnum):
    """Maps that are cut into boxes."""

    cam = "cam"
    memory = "memory"
    fusion = "fusion"


class Normalization(StrEnum):
    """Scale of a map before it is cut."""

    minmax = "minmax"
    max = "max"
    ivr = "ivr"
    none = "none"
    good = "good"
    classes = "classes"


class MapThreshold(StrEnum):
    """Origin of a map's threshold."""

    fixed = "fixed"
    good_quantile = "good_quantile"
    validation = "validation"


class Upsampling(StrEnum):
    """How a map goes from its cells to pixels."""

    bilinear = "bilinear"
    guided = "guided"


class BoxMode(StrEnum):
    """How many boxes a map gives."""

    single = "single"
    components = "components"


# `class` cannot be written as a member of a class body.
Score = StrEnum("Score", {"class": "class", "memory": "memory", "fusion": "fusion"})  # type: ignore[misc]


class DecisionThreshold(StrEnum):
    """Origin of the decision's threshold."""

    fixed = "fixed"
    validation = "validation"


class ResultFormat(StrEnum):
    """Files in which predictions are written."""

    csv = "csv"
    jsonl = "jsonl"
    coco = "coco"


class ExportFormat(StrEnum):
    """Formats of an exported model."""

    onnx = "onnx"
    openvino = "openvino"


class AnnotationFormat(StrEnum):
    """Files in which boxes are given to an annotation tool."""

    coco = "coco"
    labelstudio = "labelstudio"
    yolo = "yolo"
    labelme = "labelme"


class LoggerName(StrEnum):
    """Experiment trackers."""

    none = "none"
    csv = "csv"
    tensorboard = "tensorboard"
    mlflow = "mlflow"


class BoxesBy(StrEnum):
    """Which images have boxes to correct."""

    label = "label"
    verdict = "verdict"


class LimeHide(StrEnum):
    """What replaces a hidden superpixel."""

    blur = "blur"
    mean = "mean"


class Superpixels(StrEnum):
    """Segmentation for LIME."""

    slic = "slic"
    quickshift = "quickshift"


class ShapMasker(StrEnum):
    """What replaces a hidden part in SHAP."""

    blur = "blur"
    inpaint = "inpaint"


@dataclass
class DataConfig:
    """A source of images and how it is split."""

    name: Source = _key(MISSING, "the source")
    root: str | None = _key(None, "folder of the data set")
    limit: int | None = _key(None, "number of images, sampled stratified before folding; null: all")
    image_size: Any = _key(224, "shorter side of the network's input in pixels, or [height, width]; multiples of 32")
    tiles: Any = _key(
        "none", "what memory bank and patch head see: none: photographs whole; N: tiles of N native pixels; auto"
    )
    tile_overlap: float = _key(0.25, "share of a tile that neighbours have in common, at least")
    split: Split = _key(Split.kfold, "kfold: all images pooled; official, given: the source's own train and test")
    split_seed: int = _key(42, "seed of the splits")
    validation: float = _key(0.15, "share of each training fold set aside for what is chosen or calibrated")
    group: str | None = _key(None, "column, or regular expression on the path: photographs of one part share a fold")
    within_fold: list[int] = _key(
        [], "[fold, n_folds]: only the training images of that fold, to be folded again; empty: all images"
    )
    n_defective: int | None = _key(
        None, "labelled defects: split=kfold keeps so many for training, official moves them from test"
    )
    ignore_mask: str | None = _key(None, "mask of pixels that count for no score, relative to the root or absolute")
    annotations: str | None = _key(
        None, "COCO or Label Studio file, labelme or YOLO folder, whose boxes and outlines label the head's patches"
    )
    good: str | None = _key(None, "folder of good images", "folder")
    defective: str | None = _key(None, "folder of defective images", "folder")
    masks: str | None = _key(None, "folder of ground-truth masks", "folder")
    table: str | None = _key(None, "CSV file with path, label, and optionally the catalog's other columns", "csv")
    min_confidence: float = _key(
        0.0, "least |2p - 1| of the published defect probability p; 1: cells that all experts were sure of", "elpv"
    )
    n_good: int = _key(120, "good training images", "synthetic")
    n_test_good: int = _key(20, "good test images", "synthetic")
    n_per_type: int = _key(12, "test images of each defect type", "synthetic")
    synthetic_size: Any = _key(
        256, "side of the images in pixels, or [height, width]: several parts side by side", "synthetic"
    )
    synthetic_seed: int = _key(0, "seed of the images", "synthetic")
    url: str | None = _key(None, "address of the archive", "mvtec")
    sha256: str | None = _key(None, "checksum of the archive", "mvtec")
    keep_archive: bool = _key(True, "keep the archive for the next subset", "mvtec")


@dataclass
class ModelConfig:
    """The network: a backbone, where its weights come from, and from which layer on it is trained."""

    name: str = _key("vgg16", f"the backbone: {', '.join(Backbone)}; with model=timm any of timm that has levels")
    weights: str = _key("imagenet", "imagenet (of model=timm: what timm has) | a state dict's file | none (random)")
    preprocessing: Preprocessing = _key(Preprocessing.auto, "auto: by the weights' digest or the checkpoint's record")
    trainable_from: str = _key(
        "conv5_1", "first trained layer; the layers before it are frozen; auto: the last stage of a network of timm"
    )
    library: Library = _key(Library.defectloc, "whose names these are; timm: of model=timm")


@dataclass
class TrainingConfig:
    """How a fold is fitted."""

    epochs: int = _key(10, "most epochs; 0: no class network")
    batch_size: int = _key(10, "images a step")
    learning_rate: float = _key(1e-4, "of Adam; the peak of schedule=onecycle")
    class_weights: Any = _key([1.0, 3.0], "loss weights [good, defective], or 'balanced'")
    target_train_accuracy: float = _key(0.98, "stop once the training accuracy is above it; above 1: never")
    precision: Precision = _key(Precision.auto, "auto: float32 on a CPU, bfloat16 autocast on a GPU")
    start: HeadStart = _key(HeadStart.random, "of the head: random, or logistic regression on the untrained tail")
    schedule: Schedule = _key(Schedule.constant, "of the learning rate")
    keep: KeptEpoch = _key(KeptEpoch.last, "epoch whose weights are kept; validation: the lowest validation loss")
    patience: int = _key(1, "with keep=validation: epochs without a lower loss before the fit ends")


@dataclass
class AugmentationConfig:
    """Changes to training images: a random pipeline of albumentations, or a finite set of views; empty: none."""

    name: str = _key("none", "name of the augmentation")
    transforms: list[Any] = _key([], "transforms of albumentations with their arguments")
    views: list[View] = _key([], "flips: an epoch takes one of each image, the patch head all; they can be stored")


@dataclass
class FeaturesConfig:
    """The store of the frozen trunk's outputs."""

    cache: bool = _key(True, "false: the frozen layers run again for each image and epoch")
    limit_gb: float | None = _key(None, "above this the least recently used features are removed; null: never")
    dtype: StoredDtype = _key(StoredDtype.float16, "number format of stored features")
    batch_size: int = _key(8, "images through the frozen layers at once")
    workers: int = _key(2, "threads that decode images ahead of the network")


@dataclass
class MemoryConfig:
    """The memory bank of good patches, for localization.map=memory or fusion."""

    levels: list[str] = _key([], "of the trunk, such as [conv3_3.pool2, conv4_3]; empty: the backbone's own")
    dims: int = _key(128, "dimensions of the projected patches")
    budget_mb: float = _key(8.0, "size of the bank in MB")


@dataclass
class PatchHeadConfig:
    """The patch head that learns from image labels, for localization.map=fusion."""

    steps: int = _key(300, "steps of its fit")


@dataclass
class SupervisionConfig:
    """What the patch head learns from beside the labels of images."""

    masks: Any = _key(0, "defective training images whose masks label their patches, drawn by seed: a number, or all")


@dataclass
class BoxConfig:
    """From a map to boxes by fixed values alone, as for maps without a validation split."""

    normalization: Normalization = _key(
        Normalization.classes,
        "minmax, max, ivr: per image, 0 to 1; none: as it is; good: z-score of good validation maps; classes: 0 at "
        "their mean, 1 at the median score of defective ones",
    )
    threshold: float | None = _key(
        None,
        "of the normalised map; above it a pixel belongs to a region; null: the normalization's own (classes 0.55, "
        "good 4, none 2, others 0.8)",
    )
    boxes: BoxMode = _key(BoxMode.components, "a box for each 8-connected region, or a single one around all")
    min_area: int = _key(0, "of a region, in native pixels")
    min_peak: float | None = _key(
        None,
        "value that a region must reach; the highest region always counts; null: the normalization's own (classes 0.7, "
        "good 6, others none)",
    )
    max_boxes: int | None = _key(None, "most boxes of an image, the highest first; null: all")
    merge_distance: float = _key(0.0, "boxes with fewer native pixels between them become one")


@dataclass
class LocalizationConfig(BoxConfig):
    """From a map of a run to boxes."""

    map: MapKind = _key(MapKind.fusion, "cam: class activation map; memory: memory bank; fusion: bank and patch head")
    upsampling: Upsampling | None = _key(
        None,
        "from cells to pixels: bilinear, or guided by the photograph's edges; in tiles always bilinear; null: guided, "
        "for cam bilinear",
    )
    threshold_from: MapThreshold = _key(MapThreshold.fixed, "where the map's threshold comes from")
    quantile: float = _key(0.99, "of threshold_from=good_quantile: share of good validation pixels at most at it")
    use_masks: bool = _key(False, "threshold_from=validation may use the masks of validation images")


@dataclass
class DecisionConfig:
    """From a score to good or defective."""

    score: Score | None = _key(None, "what the decision rests on; null: the map's own, class for cam")
    threshold_from: DecisionThreshold = _key(DecisionThreshold.validation, "where the threshold comes from")
    threshold: float = _key(0.5, "a probability; also where the validation split cannot tell")
    max_escape_rate: float | None = _key(None, "with threshold_from=validation: most defects that may be missed")
    max_overkill_rate: float | None = _key(None, "most good parts rejected; with both a band between goes to review")
    calibrate: bool = _key(True, "Platt scaling of the probability on the validation split")
    prevalence: float | None = _key(None, "share of defective parts that the probability assumes; null: validation's")


@dataclass
class LoggerConfig:
    """An experiment tracker to which finished runs are logged; no part of a fit's identity."""

    name: LoggerName = _key(LoggerName.none, "the tracker")
    uri: str | None = _key(None, "mlflow: address of a server or database; null: SQLite in outputs/.tracking")
    experiment: str = _key("defectloc", "mlflow: name of the experiment")


@dataclass
class Settings:
    """What every command has."""

    outputs: str = _key("outputs", "folder of all runs")


@dataclass
class FitSettings(Settings):
    """What every command that fits has."""

    subset: str = _key(MISSING, "category of the data set, or a name of your choice")
    fold: int = _key(0, "from 0 to n_folds - 1")
    n_folds: int = _key(5, "of data.split=kfold")
    seed: int = _key(0, "of everything random but the splits")
    threads: int | None = _key(None, "processor threads; null: all")
    device: Device = _key(Device.auto, "one job uses one device")
    data: DataConfig = _group(DataConfig)
    model: ModelConfig = _group(ModelConfig)
    training: TrainingConfig = _group(TrainingConfig)
    augmentation: AugmentationConfig = _group(AugmentationConfig)
    features: FeaturesConfig = _group(FeaturesConfig)
    memory: MemoryConfig = _group(MemoryConfig)
    patch_head: PatchHeadConfig = _group(PatchHeadConfig)
    supervision: SupervisionConfig = _group(SupervisionConfig)
    localization: LocalizationConfig = _group(LocalizationConfig)
    decision: DecisionConfig = _group(DecisionConfig)


@dataclass
class TrainSettings(FitSettings):
    """`python -m defectloc.train`."""

    experiment: str | None = _key(None, "name of the preset")
    figures: bool = _key(True, "draw the figures of the run and write its report")
    logger: LoggerConfig = _group(LoggerConfig)

    @classmethod
    def of(cls, settings: FitSettings) -> "TrainSettings":
        """Give the settings of a `train` that another command starts, which draws no figure and logs nothing."""
        shared = {each.name: getattr(settings, each.name) for each in fields(FitSettings)}
        return cls(**shared, figures=False)


@dataclass
class SearchConfig:
    """What `python -m defectloc.tune` searches; an empty list leaves the setting as it is."""

    trials: int = _key(20, "settings to try, those of an earlier start counted")
    folds: int = _key(3, "inner folds, of the training images of the fold")
    metric: str = _key("balanced_accuracy", "score to maximise, a key of metrics.json: its mean over the inner folds")
    learning_rate: list[float] = _key([1e-5, 1e-3], "training.learning_rate: lowest and highest, on a log scale")
    trainable_from: list[str] = _key(["conv5_1", "conv5_2", "conv5_3"], "model.trainable_from: layers to try")
    class_weights: list[Any] = _key([[1.0, 1.0], [1.0, 3.0], "balanced"], "training.class_weights: values to try")
    patch_head_steps: list[int] = _key([100, 300, 1000], "patch_head.steps: values to try")


@dataclass
class TuneSettings(FitSettings):
    """`python -m defectloc.tune`."""

    search: SearchConfig = _group(SearchConfig)


@dataclass
class LocalizeSettings(Settings):
    """`python -m defectloc.localize`."""

    run: str = _key(MISSING, "run directory")
    root: str | None = _key(None, "where the data set is now; null: where it was at the fit")
    ignore_mask: str | None = _key(None, "mask of pixels that count for no score; null: that of the run; none")
    figures: bool = _key(False, "draw the figures")
    localization: LocalizationConfig = _group(LocalizationConfig)
    decision: DecisionConfig = _group(DecisionConfig)


@dataclass
class EvaluateSettings(Settings):
    """`python -m defectloc.evaluate`."""

    maps: str = _key(MISSING, "folder of maps (.npy, .npz, .tiff, .png); maps of good parts below a folder 'good'")
    masks: str = _key(MISSING, "folder of masks (<defect>/<stem>_mask.png), or a COCO file of boxes")
    output: str | None = _key(None, "JSON file for the scores")
    ignore_mask: str | None = _key(None, "mask of pixels that count for no score")
    localization: BoxConfig = _group(BoxConfig)


@dataclass
class PredictSettings(Settings):
    """`python -m defectloc.predict`."""

    run: str = _key(MISSING, "run directory, or folder of an exported model")
    images: str = _key(MISSING, "an image, a folder, a pattern such as photos/**/*.png, or a list of paths (.txt)")
    output: str = _key(MISSING, "folder for tables and overlays")
    format: ResultFormat = _key(ResultFormat.csv, "tables, JSON lines, or JSON lines and COCO results")
    strict: bool = _key(False, "end at the first image that cannot be read, instead of leaving it out")
    resume: bool = _key(False, "go on with what the output holds: images in it are not predicted again")
    watch: bool = _key(False, "follow a folder into which a camera drops files, until stopped")
    settle: float = _key(1.0, "with watch: seconds for which a file must not have changed before it is read")
    threads: int | None = _key(None, "processor threads; null: all")
    device: Device = _key(Device.auto, "one job uses one device")
    batch_size: int = _key(8, "images at once")
    overlays: bool = _key(True, "write each image with heat map and boxes")


@dataclass
class SummarizeSettings(Settings):
    """`python -m defectloc.summarize`."""

    output: str | None = _key(None, "folder for the tables; null: the folder `outputs`")


@dataclass
class ReportSettings(Settings):
    """`python -m defectloc.report`."""

    run: str | None = _key(None, "run directory; null: an index over all runs below `outputs`")
    root: str | None = _key(None, "where the data set is now; null: where it was at the fit")


@dataclass
class ExportSettings(Settings):
    """`python -m defectloc.export`."""

    run: str = _key(MISSING, "run directory")
    format: ExportFormat = _key(ExportFormat.onnx, "for ONNX Runtime and others, or OpenVINO's own")
    output: str | None = _key(None, "folder for the model; null: export/<format> in the run")
    compare: int = _key(8, "held-out images on which it is compared with the run; from 5 on with times; 0: none")
    threads: int | None = _key(None, "processor threads of the comparison; null: all")


@dataclass
class AnnotateSettings(Settings):
    """`python -m defectloc.annotate`."""

    subset: str = _key(MISSING, "whose images, as it was called at the fit")
    format: AnnotationFormat = _key(AnnotationFormat.coco, "of the annotation tool")
    output: str | None = _key(None, "folder for the files; null: outputs/<subset>/annotations/<format>")
    root: str | None = _key(None, "where the data set is now; null: where it was at the fit")
    fingerprint: str | None = _key(None, "of the fit whose folds are taken; null: the only one")
    localization_name: str | None = _key(
        None, "folder below localization/ of a fold, such as fusion-1a2b3c4d; null: what train was last asked for"
    )
    boxes_by: BoxesBy = _key(BoxesBy.label, "boxes on images labelled defective, or on those predicted defective")
    document_root: str | None = _key(None, "labelstudio: folder that it serves, above the images; null: the data root")
    copy: bool = _key(False, "yolo, labelme: copy the images into the output, instead of linking to them")


@dataclass
class TrackSettings(Settings):
    """`python -m defectloc.track`."""

    logger: LoggerConfig = _group(LoggerConfig)


@dataclass
class CacheSettings(Settings):
    """`python -m defectloc.cache`."""

    prune: bool = _key(False, "remove the selected features")
    key: str | None = _key(None, "select keys that begin so; null: all")
    unused_days: float | None = _key(None, "select what was not used for so many days")
    limit_gb: float | None = _key(None, "with prune: remove the least recently used until so much is left")


@dataclass
class BenchmarkConfig:
    """How much `python -m defectloc.benchmark` measures; what it leaves out is extrapolated, and marked."""

    limit: int | None = _key(None, "images, sampled stratified: a quick test that all parts run; null: all")
    steps: int = _key(6, "measured steps of what is extrapolated")
    epochs: int = _key(10, "of the compared folds, without an early stop")
    folds: int = _key(5, "number of compared folds")
    image_sizes: list[int] = _key([224, 448], "image sizes to compare")


@dataclass
class BenchmarkSettings(FitSettings):
    """`python -m defectloc.benchmark`."""

    output: str | None = _key(None, "folder for the tables; null: outputs/benchmark")
    benchmark: BenchmarkConfig = _group(BenchmarkConfig)


@dataclass
class DataSettings(Settings):
    """`python -m defectloc.overview` and `python -m defectloc.fetch`."""

    subset: str = _key(MISSING, "category of the data set, or a name of your choice")
    output: str | None = _key(None, "folder for the figure; null: outputs/<subset>")
    data: DataConfig = _group(DataConfig)


@dataclass
class TorchvisionConfig:
    """A published classifier of torchvision, explained without a run; no name: none."""

    name: str | None = _key(None, "a classifier of torchvision")
    weights: str = _key("imagenet", "imagenet | a state dict's file | none (random)")


@dataclass
class AttributionConfig:
    """What a method of attribution may spend."""

    batch_size: int = _key(8, "images through the network at once")
    steps: int = _key(24, "integrated-gradients: points of the path")
    smooth_samples: int = _key(24, "smoothgrad: noisy copies")
    expected_samples: int = _key(48, "expected-gradients: pairs of background image and point")
    background: int = _key(8, "expected-gradients: good training images")
    noise: float = _key(20.0, "smoothgrad, expected-gradients: standard deviation in grey levels")
    window: float = _key(0.143, "occlusion: side of the grey square as a share of the shorter side; it steps by half")
    lime_samples: int = _key(200, "lime: perturbed images")
    lime_hide: LimeHide = _key(LimeHide.blur, "lime: what hides a superpixel; mean: as in the lime package")
    superpixels: Superpixels = _key(Superpixels.slic, "lime: segmentation")
    n_superpixels: int = _key(60, "lime: number of superpixels of slic")
    shap_evaluations: int = _key(200, "shap-partition: evaluations of the network")
    shap_masker: ShapMasker = _key(ShapMasker.blur, "shap-partition: what hides a part")
    rise_masks: int = _key(400, "rise: number of masks")
    score_channels: int = _key(64, "scorecam: channels with the strongest activations")


@dataclass
class CompareConfig:
    """On how many images `compare=true` measures; the images of a smaller number are the first of a larger one."""

    methods: list[str] = _key([], "empty: all that the run and the installed packages allow")
    images: int = _key(25, "of each class, for class activation and gradient methods")
    images_perturbation: int = _key(10, "of each class, for perturbation methods")
    images_faithfulness: int = _key(10, "defective images for insertion and deletion")
    steps_faithfulness: int = _key(20, "steps of insertion and deletion")
    images_sanity: int = _key(3, "defective images for the map of a randomised model")


@dataclass
class ExplainSettings(Settings):
    """`python -m defectloc.explain`."""

    run: str | None = _key(None, "run directory; null: model=torchvision model.name=NAME")
    model: TorchvisionConfig = _group(TorchvisionConfig)
    method: str = _key("gradcam", "method of attribution; an unknown one lists all")
    images: str | None = _key(None, "an image or a folder; null: the run's test images")
    root: str | None = _key(None, "where the run's data set is now, if it was moved")
    ignore_mask: str | None = _key(None, "with compare: mask of pixels that count for no score")
    output: str | None = _key(None, "null: explain/ in the run, or below `outputs`")
    n: int | None = _key(None, "how many images; null: up to 9")
    select: str = _key("all", "sample from all | good | defective | a defect type")
    seed: int = _key(0, "of the sample and of random methods")
    target: str | None = _key(None, "anomaly (null) | good | predicted; torchvision: predicted (null) | top3 | class")
    layer: str | None = _key(None, "for class activation methods: a name or an index; an unknown one lists all")
    compare: bool = _key(False, "score all methods against the masks")
    threads: int | None = _key(None, "processor threads; null: all")
    device: Device = _key(Device.auto, "one job uses one device")
    scale: str = _key("sheet", "colours: sheet (one scale for all images) | image | the value of full colour")
    colormap: str = _key("inferno", "any of Matplotlib's")
    opacity: float = _key(0.65, "of the heat map at full colour")
    photo_opacity: float | None = _key(
        None, "null: the photograph shows where the map is low; a number: both are added"
    )
    columns: int = _key(3, "of the contact sheet")
    attribution: AttributionConfig = _group(AttributionConfig)
    comparison: CompareConfig = _group(CompareConfig)
    localization: BoxConfig = _group(BoxConfig)


SETTINGS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "tune": TuneSettings,
    "localize": LocalizeSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "summarize": SummarizeSettings,
    "report": ReportSettings,
    "export": ExportSettings,
    "annotate": AnnotateSettings,
    "track": TrackSettings,
    "overview": DataSettings,
    "cache": CacheSettings,
    "benchmark": BenchmarkSettings,
    "explain": ExplainSettings,
    "fetch": DataSettings,
}


def leaves(schema: Any, prefix: str = "") -> dict[str, Any]:
    """Name every key of a schema by its dotted path, with its dataclass field."""
    found: dict[str, Any] = {}
    for name, each in schema.__dataclass_fields__.items():
        if hasattr(each.type, "__dataclass_fields__"):
            found |= leaves(each.type, f"{prefix}{name}.")
        else:
            found[prefix + name] = each
    return found


def directory() -> Path:
    """Find the YAML: `conf/` beside the package in a checkout, inside the package in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@functools.cache
def register() -> None:
    """Tell Hydra the schema, once a process, so that an unknown key or a wrong type is refused by name."""
    store = ConfigStore.instance()
    for command, schema in SETTINGS.items():
        store.store(name=f"{command}_schema", node=schema)
    # The folder of a sweep's job is named by its overrides, not by its number, so that two sweeps do not collide.
    OmegaConf.register_new_resolver(
        "digest", lambda text: hashlib.sha256(str(text).encode()).hexdigest()[:12], replace=True
    )
