"""The demo grounder's encoders, for a student to start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from groundingdino.util.misc import NestedTensor
from torch import Tensor, nn

from stages.common.text_cache import KnownTexts
from stages.ground.architecture import build_demo_swin, encode_texts
from stages.ground.sentences import as_caption

_CACHED_TEXTS = 4096


class SwinPyramid(nn.Module):
    """The small Swin of the demo grounder, with maps at strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.swin = build_demo_swin(out_indices=(0, 1, 2))
        self.channels: tuple[int, ...] = tuple(self.swin.num_features)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns maps [N, c, H / s, W / s], finest first, of images [N, 3, H, W]."""
        shape = (images.shape[0], *images.shape[2:])
        padded = torch.zeros(shape, dtype=torch.bool, device=images.device)
        maps = self.swin(NestedTensor(images, padded))
        return [maps[key].tensors for key in sorted(maps)]

    def start_from(self, grounder: GroundingDINO) -> None:
        """Copies the weights of a demo grounder's backbone. The finest map's norm is kept."""
        self.swin.load_state_dict(self.swin.state_dict() | grounder.backbone[0].state_dict())


class GroundingText:
    """The demo grounder's frozen sentence features. Up to 4096 sentences are cached."""

    def __init__(self, grounder: GroundingDINO) -> None:
        self.grounder = grounder.eval()
        self.channels: int = grounder.hidden_dim
        self._known: KnownTexts[tuple[Tensor, Tensor]] = KnownTexts(_CACHED_TEXTS)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns tokens [N, L, channels], and whether each is a word, bool [N, L]."""
        rows = self._known.of(texts, self._encode)
        words = nn.utils.rnn.pad_sequence([row[0] for row in rows], batch_first=True)
        usable = nn.utils.rnn.pad_sequence([row[1] for row in rows], batch_first=True)
        return words, usable

    def _encode(self, text: str) -> tuple[Tensor, Tensor]:
        found = encode_texts(self.grounder, [as_caption(text)])
        return found.encoded[0], found.content[0]


def projection_of(grounder: GroundingDINO) -> Tensor:
    """Returns the grounder's projection of its coarsest backbone features to words, [D, c].

    The scale of the norm is part of it. The two spaces were trained to agree.
    """
    level = len(grounder.backbone.num_channels) - 1
    convolution, norm = grounder.input_proj[level]
    weight: Tensor = norm.weight[:, None] * convolution.weight[:, :, 0, 0]
    return weight.detach()
