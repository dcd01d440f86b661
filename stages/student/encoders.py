"""Published image and video encoders for a student: torchvision's ResNets and Video Swin.

Weights come from a file (torchvision's state dict), or are random. Nothing is downloaded. Letters:
N frames of several clips, T frames of one, H W pixels, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50, resnet101
from torchvision.models.resnet import ResNet
from torchvision.models.video import swin3d_t
from torchvision.ops import FrozenBatchNorm2d

from pipeline.config import StudentEncodersConfig
from pipeline.errors import CheckpointError
from stages.common.weights import fill_model
from stages.student.simrvos.model import ImageEncoder, TextEncoder
from stages.student.text_encoders import FrozenText, load_text_encoder

_RESNETS: dict[str, Callable[..., ResNet]] = {"resnet50": resnet50, "resnet101": resnet101}
_REMEDY = "set student.encoders.backbone_checkpoint to torchvision's weights of that model"
_SIDE = 32
"""Pixels that a frame's sides are padded to a multiple of, so that no merging of patches pads."""


class ResNetPyramid(nn.Module):
    """A ResNet without its classifier: maps at strides 4, 8, 16 and 32.

    Batch norm is frozen, in training too: its statistics are the checkpoint's and its scale is not
    trained. A step has too few clips to estimate them.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = _RESNETS[name](weights=None, norm_layer=FrozenBatchNorm2d)
        self.channels: tuple[int, ...] = (256, 512, 1024, 2048)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns maps [N, c, ceil(H / s), ceil(W / s)], finest first, of images [N, 3, H, W]."""
        net = self.net
        seen = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            seen = stage(seen)
            maps.append(seen)
        return maps


class VideoSwinPyramid(nn.Module):
    """Video-Swin-T without its classifier: maps of every frame at strides 4, 8, 16 and 32.

    Its patches are two frames deep, which halves T. Here each frame is repeated before patches are
    made. So every frame has its own patches, T is kept, and published weights fit. (To repeat the
    maps of half as many frames would give two frames one mask.) A window of 8 patches in time then
    spans 8 frames, not 16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = swin3d_t(weights=None)
        self.channels: tuple[int, ...] = (96, 192, 384, 768)
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in self.channels[:-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Frames [N, 3, H, W] of one clip."""
        return self.maps_of_clips(images, [len(images)])

    def maps_of_clips(self, images: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Returns maps [N, c, ceil(H / s), ceil(W / s)], finest first, of images [N, 3, H, W].

        Args:
            lengths: lengths of the clips, which add up to N. Clips of one length share a pass.

        Raises:
            ValueError: the lengths do not sum to N.
        """
        if sum(lengths) != len(images):
            raise ValueError(f"clips of {list(lengths)} frames in {len(images)} frames")
        parts = images.split(list(lengths))
        found: list[list[Tensor]] = [[] for _ in parts]
        for length in dict.fromkeys(lengths):
            rows = [row for row, count in enumerate(lengths) if count == length]
            maps = self._maps(torch.stack([parts[row] for row in rows]))
            for place, row in enumerate(rows):
                found[row] = [level[place] for level in maps]
        return [torch.cat(level) for level in zip(*found, strict=True)]

    def _maps(self, clips: Tensor) -> list[Tensor]:
        """Returns maps [B, T, c, h, w] of clips [B, T, 3, H, W]."""
        height, width = clips.shape[-2:]
        padded = F.pad(clips, (0, -width % _SIDE, 0, -height % _SIDE))
        twice = padded.repeat_interleave(2, dim=1).transpose(1, 2)
        seen = self.net.pos_drop(self.net.patch_embed(twice))
        maps = []
        for row, layer in enumerate(self.net.features):
            seen = layer(seen)
            if row % 2 == 0:  # the layers between merge patches
                level = row // 2
                # The published norm is the last map's; the others' are new.
                norm = self.net.norm if level == len(self.channels) - 1 else self.norms[level]
                stride = 4 * 2**level
                cut = norm(seen)[:, :, : -(-height // stride), : -(-width // stride)]
                maps.append(cut.permute(0, 1, 4, 2, 3))
        return maps


def load_backbone(name: str, checkpoint: Path | None) -> ImageEncoder:
    """Returns an image encoder with torchvision's weights, or with random ones.

    Args:
        name: ``resnet50``, ``resnet101`` or ``video-swin-t``.
        checkpoint: torchvision's state dict, with or without its classifier; None for random
            weights from torch's generator.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    encoder = VideoSwinPyramid() if name == "video-swin-t" else ResNetPyramid(name)
    _without_classifier(encoder.net)
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise CheckpointError(
                checkpoint, "no such file", f"a state dict of torchvision's {name}", _REMEDY
            )
        # The classifier is not ours; FrozenBatchNorm2d counts no batches.
        fill_model(encoder.net, checkpoint, ignore=_ignored(encoder.net))
    return encoder


def build_encoders(
    config: StudentEncodersConfig,
    demo: Callable[[], tuple[ImageEncoder, TextEncoder]],
    device: torch.device,
) -> tuple[ImageEncoder, TextEncoder]:
    """Returns the encoders that a configuration names.

    Args:
        demo: returns the demo encoders. It is called only if one of them is needed.

    Raises:
        CheckpointError: weights or a tokenizer are missing or of another kind.
    """
    own_images = config.backbone != "demo"
    images, texts = (None, None) if own_images and config.text_encoder != "demo" else demo()
    if own_images:
        images = load_backbone(config.backbone, config.backbone_checkpoint)
    if config.text_encoder != "demo":
        texts = FrozenText(*load_text_encoder(Path(config.text_encoder)), device)
    assert images is not None and texts is not None
    return images, texts


def _without_classifier(net: nn.Module) -> None:
    """Removes a ResNet's ``fc`` or a Swin's ``head``, which no gradient would reach."""
    name = "fc" if isinstance(net, ResNet) else "head"
    setattr(net, name, nn.Identity())


def _ignored(net: nn.Module) -> tuple[str, ...]:
    norms = [name for name, part in net.named_modules() if isinstance(part, FrozenBatchNorm2d)]
    counted = [f"{name}.num_batches_tracked" for name in norms]
    return ("fc.weight", "fc.bias", "head.weight", "head.bias", *counted)
