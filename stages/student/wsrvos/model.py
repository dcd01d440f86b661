"""The network of WSRVOS, which learns from true and false sentences about a clip.

Every frame and every sentence is encoded once. Only the layers after that run for every pair.

Letters: N frames of several clips, X distinct sentences, P pairs of frame and sentence, E sentences
of a clip, T its frames, m words, C channels, n = h w proposals of a frame, h_1 w_1 cells of the
finest map, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import WsrvosConfig
from stages.student.simrvos.model import (
    ImageEncoder,
    TextEncoder,
    feature_maps,
    sentence_of,
)
from stages.student.weak.filters import with_coordinates
from stages.student.wsrvos.refinement import Refinement
from stages.student.wsrvos.selection import Interaction

HEADS = 8
"""Of the attention, as in the paper."""

LIFT = 1.0
"""At logit 0, a proposal is e^LIFT times as likely as by chance."""

_OWN_SHARPNESS, _INTERACTED_SHARPNESS = 10.0, 1.0
"""Initial factors of cosines, which are learnt: before the interaction, and after it."""


@dataclass(frozen=True)
class Encoded:
    """Encoded frames and sentences of one pass.

    Attributes:
        maps: the image encoder's maps [N, channels[i], h_i, w_i], finest first.
        words: [X, m, C].
        usable: bool [X, m].
        rows: sentence -> its row.
    """

    maps: tuple[Tensor, ...]
    words: Tensor
    usable: Tensor
    rows: dict[str, int]


@dataclass(frozen=True)
class Response:
    """The output for the pairs of a clip.

    Attributes:
        which: [E, T, n], how well each sentence fits each proposal.
        where: [E, T, n], how likely each proposal is what the sentence names.
        sentence: [E, T, C], the sentence after its interaction with the frame.
        size: h, w of the proposals.
    """

    which: Tensor
    where: Tensor
    sentence: Tensor
    size: tuple[int, int]

    @property
    def coarse(self) -> Tensor:
        """Returns mask logits of the proposals, [E, T, h, w]: log(n softmax(where)) - LIFT.

        If all proposals are equal, they are background. At most 1 / e of the frame can be above the
        logit 0, so a sentence that names nothing cannot get a mask of the whole frame.
        """
        lift = F.log_softmax(self.where, -1) + math.log(self.where.shape[-1]) - LIFT
        coarse: Tensor = lift.unflatten(-1, self.size)
        return coarse


class WsrvosNetwork(nn.Module):
    """Computes proposal scores and masks from frames and sentences.

    Args:
        image_encoder: returns at least two maps.
        text_encoder: frozen; its weights are not parameters of this module.
        channels: C.
    """

    _text_encoder: TextEncoder

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        config: WsrvosConfig,
        channels: int,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        object.__setattr__(self, "_text_encoder", text_encoder)
        counts = tuple(image_encoder.channels)
        last = len(counts) - 1
        self._depths = [min(depth, last) for depth in config.depths]
        self._level = min(config.proposal_level, last)
        self.text_in = nn.Linear(text_encoder.channels, channels)
        self.visual_in = nn.ModuleList(
            nn.Conv2d(counts[depth] + 2, channels, 1) for depth in self._depths
        )
        kept = config.kept_tokens if config.selection else None
        self.interactions = nn.ModuleList(Interaction(channels, HEADS, kept) for _ in self._depths)
        self.word_weight = nn.Linear(channels, 1)
        self.which = Match(channels, _OWN_SHARPNESS)
        self.where = Match(channels, _INTERACTED_SHARPNESS)
        # Made last: what comes before starts from the same weights with it and without.
        self.refinement = Refinement(counts, channels) if config.refinement else None

    def encode(
        self, images: Tensor, texts: Sequence[str], lengths: Sequence[int], *, frozen: bool
    ) -> Encoded:
        """Encodes normalised images [N, 3, H, W], of clips of these lengths, and sentences."""
        distinct = list(dict.fromkeys(texts))
        with torch.no_grad():
            words, usable = self._text_encoder(distinct)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            maps = tuple(feature_maps(self.image_encoder, images, lengths))
        rows = {text: row for row, text in enumerate(distinct)}
        return Encoded(maps, self.text_in(words.to(images.device)), usable.to(images.device), rows)

    def respond(
        self, encoded: Encoded, clips: Sequence[tuple[slice, Sequence[str]]]
    ) -> list[Response]:
        """Pairs every sentence of every clip with every frame of the clip, in one pass.

        ``which`` compares the frame's cells with the sentence's words before the interaction, less
        its mean over the frame. Features after the interaction could tell true sentences from false
        ones, or known samples, without regard to any place, and so could a value that is the same
        in all cells. L_cls would fall and nothing would be found. The interaction therefore only
        decides where the target is, and how masks are refined.

        Args:
            clips: for each clip, its frames as a slice of the N frames, and its E sentences.
        """
        shapes = [(len(texts), part.stop - part.start) for part, texts in clips]
        device = encoded.words.device
        frame = torch.cat(
            [
                torch.arange(part.start, part.stop, device=device).repeat(len(texts))
                for part, texts in clips
            ]
        )
        rows = torch.tensor(
            [
                encoded.rows[text]
                for part, texts in clips
                for text in texts
                for _ in range(part.start, part.stop)
            ],
            device=device,
        )
        size = encoded.maps[self._level].shape[-2], encoded.maps[self._level].shape[-1]
        words, usable = encoded.words[rows], encoded.usable[rows]
        said = sentence_of(words, usable)
        seen = torch.zeros_like(words[:1, :1])
        cells = seen
        for depth, visual_in, interaction in zip(
            self._depths, self.visual_in, self.interactions, strict=True
        ):
            level = visual_in(with_coordinates(encoded.maps[depth]))
            level = resampled(level, size).flatten(2).transpose(1, 2)[frame]
            seen = seen + level
            cells, words = interaction(cells + level, words, usable)
        weight = self.word_weight(words)[..., 0].masked_fill(~usable, -1e4).softmax(-1)
        sentence = (weight[..., None] * words).sum(1)
        which = self.which(seen, said)
        which = which - which.mean(-1, keepdim=True)
        where = which + self.where(cells, sentence)
        counts = [count * length for count, length in shapes]
        return [
            Response(
                fits.unflatten(0, shape), place.unflatten(0, shape), meant.unflatten(0, shape), size
            )
            for fits, place, meant, shape in zip(
                which.split(counts),
                where.split(counts),
                sentence.split(counts),
                shapes,
                strict=True,
            )
        ]

    def features(self, encoded: Encoded) -> Tensor | None:
        """Returns the features for refinement, [N, C, h_1, w_1]; None without refinement."""
        if self.refinement is None:
            return None
        features: Tensor = self.refinement.pyramid_of(encoded.maps)
        return features

    def masks(self, response: Response, features: Tensor | None, rows: slice) -> Tensor:
        """Returns mask logits of some of a clip's sentences.

        Args:
            features: of the clip's T frames, or None.
            rows: the sentences.

        Returns:
            [E', T, h_1, w_1]; [E', T, h, w] without refinement.
        """
        coarse = response.coarse[rows]
        if self.refinement is None or features is None:
            return coarse
        refined: Tensor = self.refinement(coarse, features, response.sentence[rows])
        return refined


class Match(nn.Module):
    """Logits of cells for a sentence: a scaled cosine of learnt projections."""

    def __init__(self, channels: int, sharpness: float) -> None:
        super().__init__()
        self.of_cells = nn.Linear(channels, channels)
        self.of_sentence = nn.Linear(channels, channels)
        self.sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))

    def forward(self, cells: Tensor, sentence: Tensor) -> Tensor:
        """Returns the logits [P, n] of cells [P, n, C] for sentences [P, C]."""
        cells = F.normalize(self.of_cells(cells), dim=-1)
        sentence = F.normalize(self.of_sentence(sentence), dim=-1)
        logits: Tensor = self.sharpness.exp() * (cells @ sentence[..., None])[..., 0]
        return logits


def resampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes [N, C, h', w'] to h x w: the mean of finer cells, or bilinear from coarser ones."""
    if maps.shape[-2] >= size[0] and maps.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
