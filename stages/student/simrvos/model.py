"""SimRVOS (arXiv 2308.02162, eqs 1 to 5 and 19): one pass per frame, without boxes or queries.

Letters: N frames (of several clips), L words, C channels, h w cells of a feature map, H W pixels.
Maps are finest first; the paper's F_4 is the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.student.weak.blcl import ContrastiveFeatures
from stages.student.weak.filters import DynamicFilters, with_coordinates
from stages.student.weak.segmented import Segmented


class ImageEncoder(Protocol):
    """An encoder that returns a pyramid of feature maps."""

    @property
    def channels(self) -> Sequence[int]: ...

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Returns maps [N, channels[i], h_i, w_i], finest first, of images [N, 3, H, W]."""
        ...


@runtime_checkable
class VideoEncoder(Protocol):
    """An image encoder that processes several frames at once.

    It needs to know which frames are consecutive.
    """

    @property
    def channels(self) -> Sequence[int]: ...

    def maps_of_clips(self, images: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
        """Returns maps as :class:`ImageEncoder` does; the N frames are clips of these lengths."""
        ...


class TextEncoder(Protocol):
    """A frozen encoder of sentences."""

    channels: int

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns tokens [N, L, channels], and whether each is a word, bool [N, L]."""
        ...


@runtime_checkable
class SentenceEncoder(Protocol):
    """A text encoder that may have been trained with a feature of the whole sentence."""

    def pooled(self, texts: Sequence[str]) -> Tensor | None:
        """Returns the sentences' features [N, channels]; None if the encoder has none."""
        ...


def feature_maps(
    encoder: ImageEncoder, images: Tensor, lengths: Sequence[int] | None = None
) -> list[Tensor]:
    """Returns the maps of N frames, finest first.

    Args:
        images: [N, 3, H, W], normalised.
        lengths: frames of each consecutive clip; None for one clip.
    """
    if isinstance(encoder, VideoEncoder):
        return list(encoder.maps_of_clips(images, [len(images)] if lengths is None else lengths))
    return list(encoder(images))


@dataclass(frozen=True)
class Fused:
    """The output of the two cross-attentions.

    Attributes:
        visual: [N, C, h, w], the paper's F-hat.
        words: [N, L, C], the paper's R-hat.
    """

    visual: Tensor
    words: Tensor


class CrossAttention(nn.Module):
    """One direction of eqs 1 and 2: x + softmax(f_q(x) f_k(y)^T / sqrt(C)) f_v(y)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor, usable: Tensor | None = None) -> Tensor:
        """Returns x [N, n, C] after attention to y [N, m, C], where ``usable`` [N, m] is True."""
        query, key, value = self.query(x), self.key(y), self.value(y)
        mask = None if usable is None else usable[:, None]
        attended: Tensor = x + F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended


class FeaturePyramid(nn.Module):
    """FPN (eq 4): merges the fused coarsest map with the finer ones, top down."""

    def __init__(self, finer: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in finer)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.GroupNorm(8, channels),
                nn.ReLU(inplace=True),
            )
            for _ in finer
        )

    def forward(self, fused: Tensor, finer: Sequence[Tensor]) -> Tensor:
        """Returns [N, C, h_1, w_1] from the coarsest map and the finer ones, finest first."""
        # Convolutions are a third faster over channels that lie side by side.
        top, *finer = (
            maps.contiguous(memory_format=torch.channels_last) for maps in (fused, *finer)
        )
        for lateral, smooth, source in reversed(
            list(zip(self.lateral, self.smooth, finer, strict=True))
        ):
            upper = F.interpolate(top, source.shape[-2:], mode="bilinear", align_corners=False)
            top = smooth(lateral(source) + upper)
        return top


class SimRVOS(nn.Module):
    """Predicts the mask of a sentence's target, frame by frame.

    Args:
        image_encoder: returns at least two maps.
        text_encoder: frozen; its weights are not parameters of this module.
        channels: C.
        contrastive: whether the model has the layers of BLCL.
        fusion: ``vision`` leaves out eq 2, so that frames do not change the words; ``language``
            leaves out eq 1, so that words do not change the frames.
    """

    _text_encoder: TextEncoder

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        channels: int,
        *,
        contrastive: bool = False,
        fusion: Literal["both", "vision", "language"] = "both",
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        object.__setattr__(self, "_text_encoder", text_encoder)
        self.visual_in = nn.Conv2d(image_encoder.channels[-1], channels, 1)
        self.text_in = nn.Linear(text_encoder.channels, channels)
        self.to_visual = CrossAttention(channels) if fusion != "language" else None
        self.to_words = CrossAttention(channels) if fusion != "vision" else None
        self.word_weight = nn.Linear(channels, 1)
        self.pyramid = FeaturePyramid(image_encoder.channels[:-1], channels)
        self.dynamic = DynamicFilters(channels + 2)
        self.filters = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, self.dynamic.count),
        )
        self._channels = channels
        # Made last: what comes before starts from the same weights with it and without.
        self.contrastive = ContrastiveFeatures(channels) if contrastive else None

    def forward(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns mask logits [N, h_1, w_1] for normalised images [N, 3, H, W], a sentence each."""
        return self.look(images, texts).logits

    def look(
        self,
        images: Tensor,
        texts: Sequence[str],
        rows: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Segmented:
        """Returns mask logits and what they were computed from.

        Args:
            images: [M, 3, H, W]. Each is encoded once, for all of its sentences.
            texts: N sentences.
            rows: row of each sentence's image; None for one sentence per image, in order.
            lengths: lengths of the images' clips, as in :func:`feature_maps`.
        """
        words_NLC, usable, sentence = read_sentences(
            self._text_encoder, self.text_in, texts, images.device
        )
        maps = feature_maps(self.image_encoder, images, lengths)
        if rows is not None:
            maps = [item[torch.tensor(rows, device=images.device)] for item in maps]
        fused = self.fuse(self.visual_in(maps[-1]), words_NLC, usable)
        theta = self.dynamic_filters(fused.words, sentence, usable)
        features, contrast = self.pyramid(fused.visual, maps[:-1]), None
        if self.contrastive is not None:
            contrast, features = self.contrastive(features)
        cells = with_coordinates(features)
        logits = self.dynamic.masks(cells, theta)  # eq 5
        return Segmented(logits, cells, theta, self.dynamic, sentence, contrast)

    def fuse(self, visual: Tensor, words: Tensor, usable: Tensor) -> Fused:
        """Cross-attention in both directions, each with its own parameters (eqs 1 and 2)."""
        size = visual.shape[-2], visual.shape[-1]
        cells = visual.flatten(2).transpose(1, 2) + positions(*size, self._channels, visual)
        seen = cells if self.to_visual is None else self.to_visual(cells, words, usable)
        said = words if self.to_words is None else self.to_words(words, cells)
        return Fused(seen.transpose(1, 2).unflatten(2, size), said)

    def dynamic_filters(self, fused_words: Tensor, sentence: Tensor, usable: Tensor) -> Tensor:
        """theta [N, n] = MLP(R^s + sum_i lambda_i R-hat_i), lambda a softmax over words (eq 3).

        R^s [N, C] is the encoder's pooled feature, as in ReferFormer, on which SimRVOS builds; for
        an encoder without one, the mean of the words.
        """
        weight = self.word_weight(fused_words)[..., 0].masked_fill(~usable, -1e4).softmax(-1)
        theta: Tensor = self.filters(sentence + (weight[..., None] * fused_words).sum(1))
        return theta


def read_sentences(
    encoder: TextEncoder, text_in: nn.Module, texts: Sequence[str], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns words [N, L, C], which of them count, bool [N, L], and R^s [N, C] of N sentences.

    R^s is the encoder's pooled feature if it has one, else the mean of the words.

    Args:
        encoder: encodes each distinct sentence once.
        text_in: from the encoder's channels to C.
    """
    distinct = list(dict.fromkeys(texts))
    with torch.no_grad():
        words, usable = encoder(distinct)
        pooled = encoder.pooled(distinct) if isinstance(encoder, SentenceEncoder) else None
    said = torch.tensor([distinct.index(text) for text in texts], device=device)
    words_NLC = text_in(words.to(device))[said]
    usable = usable.to(device)[said]
    if pooled is not None:
        return words_NLC, usable, text_in(pooled.to(device))[said]
    return words_NLC, usable, sentence_of(words_NLC, usable)


def sentence_of(words: Tensor, usable: Tensor) -> Tensor:
    """Returns R^s [N, C], the mean of the words among tokens [N, L, C]; 0 without words."""
    return (words * usable[..., None]).sum(1) / usable.sum(1, keepdim=True).clamp(min=1)


def positions(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Returns the sine embedding of the cells' positions: [1, h * w, C]."""
    quarter = channels // 4
    rate = torch.pi * 2 ** torch.linspace(-1, 3, quarter, device=like.device)
    y = torch.linspace(0, 1, height, device=like.device)[:, None, None] * rate
    x = torch.linspace(0, 1, width, device=like.device)[None, :, None] * rate
    y, x = y.expand(height, width, quarter), x.expand(height, width, quarter)
    table = torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=-1)
    table = F.pad(table, (0, channels - table.shape[-1]))
    return table.flatten(0, 1)[None].to(like.dtype)
