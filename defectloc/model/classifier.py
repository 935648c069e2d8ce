"""The network: frozen trunk, trained tail, and a head whose map is the exact decomposition of its decision."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from defectloc.errors import DefectlocError
from defectloc.model import backbones, timm_networks
from defectloc.model.grids import StrideOffset
from defectloc.model.levels import IMAGE, Level

# Where a network has both texture and shape, on a grid finer than the class map's.
BANK_LEVELS = {
    "vgg16": ("conv3_3.pool2", "conv4_3"),
    "resnet50": ("layer2", "layer3"),
    "densenet121": ("denseblock2", "denseblock3"),
    "efficientnet_lite0": ("blocks2", "blocks3"),
    "efficientnet_lite1": ("blocks2", "blocks3"),
    "efficientnet_lite2": ("blocks2", "blocks3"),
}
# Of the height of an image, the share that a level's cells seem to cover, or its inverse, from which on their stride is
# wrong: layers without padding leave a border out.
MOST_UNCOVERED = 1.9


class Classifier(nn.Module):
    """A backbone cut in trunk, tail and head; takes RGB images `(N, 3, H, W)` in 0..255, H and W multiples of 32.

    The head is a 1x1 convolution with two channels (good, defective). The logits are the channels' means, so the mean
    of the class activation map `channels[:, 1] - channels[:, 0]` is the log-odds of the decision (Zhou et al. 2016,
    with the dense layer moved in front of the global average).
    """

    def __init__(self, backbone: str, trainable_from: str, preprocessing: str) -> None:
        """Raises DefectlocError where `trainable_from` is no stage with weights."""
        super().__init__()
        chain = backbones.stages(backbone)
        trainable_from = backbones.trainable_from(backbone, chain, trainable_from)
        names = list(chain)
        cut = len(names) if trainable_from == backbones.HEAD else names.index(trainable_from)
        # Plain text: they go into the checkpoint, and a member of an enumeration would need pickle.
        self.backbone, self.trainable_from, self.preprocessing = str(backbone), str(trainable_from), str(preprocessing)
        self.level = Level(backbones.level_names(list(chain.items())[:cut])[-1]) if cut else IMAGE
        self.has_class_map = backbones.ends_in_pooling(backbone, chain)
        self.grid = backbones.cells(chain)
        self.normalize = backbones.Normalize(*backbones.constants(preprocessing, backbone))
        self.trunk = nn.Sequential(OrderedDict((name, chain[name]) for name in names[:cut]))
        self.tail = nn.Sequential(OrderedDict((name, chain[name]) for name in names[cut:]))
        self.head = nn.Conv2d(backbones.width(chain), 2, kernel_size=1)
        self.trunk.requires_grad_(False)

    @property
    def bank_levels(self) -> list[Level]:
        """List the levels for the memory bank unless others are given; the trunk need not have them."""
        if self.backbone in BANK_LEVELS:
            return [Level.parse(text) for text in BANK_LEVELS[self.backbone]]
        chain = OrderedDict([*self.trunk.named_children(), *self.tail.named_children()])
        return [Level(name) for name in timm_networks.bank_levels(chain)]

    def train(self, mode: bool = True) -> "Classifier":
        """Switch tail and head; the trunk stays in evaluation mode, so that its statistics are never updated."""
        super().train(mode)
        self.trunk.eval()
        return self

    def levels(
        self, images: torch.Tensor, wanted: Sequence[Level], trunk: nn.Module | None = None
    ) -> dict[Level, torch.Tensor]:
        """Give levels `(N, C, h, w)` of the trunk in one pass; `trunk`: a copy of it that is faster.

        Raises DefectlocError for a level that it does not have.
        """
        self.require(wanted)
        found = {IMAGE: images} if IMAGE in wanted else {}
        for name, values in backbones.outputs((trunk or self.trunk).named_children(), self.normalize(images)):
            for level in wanted:
                if level.stage == name:
                    found[level] = values if level.pool == 1 else F.avg_pool2d(values, level.pool)
            if len(found) == len(set(wanted)):
                break
        return found

    def require(self, levels: Sequence[Level]) -> None:
        """Raise DefectlocError unless the trunk has the stages of all these levels."""
        there = backbones.level_names(self.trunk.named_children())
        missing = [level.stage for level in levels if level != IMAGE and level.stage not in there]
        if missing:
            raise DefectlocError(
                f"the frozen part of {self.backbone} has no stage '{missing[0]}' (model.trainable_from="
                f"{self.trainable_from}); it has {', '.join(there) or 'none'}. localization.map=cam needs none."
            )

    def check_size(self, size: int | list[int], levels: Sequence[Level]) -> None:
        """Raise DefectlocError where a network of timm cannot take images of this side, or (height, width).

        Also where it is not known where the cells of one of the levels lie. Without levels it is the trunk's own output
        that must come, wherever its cells lie.
        """
        if not backbones.is_of_timm(self.backbone):
            return
        height, width = (size, size) if isinstance(size, int) else size
        try:
            with torch.inference_mode():
                found = self.levels(torch.zeros(1, 3, height, width), levels or [self.level])
        # It refuses them by assertions, or its layers do not fit.
        except (AssertionError, RuntimeError, ValueError) as error:
            what = str(error).strip().partition("\n")[0]
            raise DefectlocError(f"data.image_size={size} does not suit {self.backbone}: {what}") from error
        for level, values in found.items():
            if not isinstance(values, torch.Tensor) or values.ndim != 4:
                raise DefectlocError(f"{self.backbone} gives no map as its level '{level}'; choose another network.")
            # Layers are counted one after another: of parallel ones that timm names no level, the count is wrong.
            covered = self.grid_of(level)[0] * values.shape[2] / height
            if level in levels and not 1 / MOST_UNCOVERED < covered < MOST_UNCOVERED:
                known = ", ".join(timm_networks.cells_of(OrderedDict(self.trunk.named_children())))
                raise DefectlocError(
                    f"{self.backbone} does not tell where the cells of '{level}' lie; memory.levels may be {known}."
                )

    def grid_of(self, level: Level) -> StrideOffset:
        """Give (stride, offset) of a level's cells in pixels of the input; raises DefectlocError as `require` does."""
        self.require([level])
        stride, offset = (
            (1, 0) if level == IMAGE else backbones.cells(OrderedDict(self.trunk.named_children()), level.stage)
        )
        return stride * level.pool, offset + stride * (level.pool - 1) / 2

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Give the trunk's output `(N, C, h, w)`."""
        return self.levels(images, [self.level])[self.level]

    def last_map(self, features: torch.Tensor) -> torch.Tensor:
        """Give the tail's output `(N, C', h, w)`, which the head takes, for the trunk's output."""
        if self.level == IMAGE:
            features = self.normalize(features)
        return self.tail(features)

    def channels(self, features: torch.Tensor) -> torch.Tensor:
        """Give the head's two channels `(N, 2, h, w)` for the trunk's output."""
        return self.head(self.last_map(features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits `(N, 2)`: good, defective."""
        return self.channels(self.features(images)).mean((2, 3))


def class_activation_map(channels: torch.Tensor) -> torch.Tensor:
    """Give the log-odds of each cell `(N, h, w)` float32; their mean is the log-odds of the decision."""
    channels = channels.float()
    return channels[:, 1] - channels[:, 0]
