"""The grounder for GroPrompt, which trains its decoder. The rest is frozen.

Letters: M frames, N pairs of frame and sentence, Q queries, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from torch import Tensor, nn

from pipeline.config import GroundConfig
from stages.common.preprocessing import normalise_frames
from stages.ground.architecture import (
    TextFeatures,
    decoder_of,
    encode_frames,
    encode_texts,
    run_transformer,
)
from stages.ground.sentences import as_caption, sentence_scores


class DecoderProposer:
    """Finds boxes for sentences, with a gradient for the decoder.

    Args:
        model: on its device. All of it but the decoder is frozen.
        config: sizes of frames, score of sentences, pairs in one pass.

    Attributes:
        decoder: the part that is trained, see :func:`stages.ground.architecture.decoder_of`.
        channels: C, of a sentence's feature.
    """

    def __init__(self, model: GroundingDINO, config: GroundConfig) -> None:
        self._model = model.eval().requires_grad_(False)
        self._config = config
        self.decoder: nn.Module = decoder_of(model).requires_grad_(True)
        self.channels: int = model.hidden_dim

    def propose(
        self, images: Tensor, rows: Sequence[int], texts: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Returns the boxes of each of N pairs. Every frame and every sentence is encoded once.

        Args:
            images: uint8 [M, H, W, 3].
            rows: the frame of each pair.
            texts: the sentence of each.

        Returns:
            Boxes [N, Q, 4], centre x, centre y, width, height in [0, 1] of the frame, and their
            similarity to the pair's sentence, [N, Q] in [0, 1].
        """
        device = self._model.feat_map.weight.device
        distinct = list(dict.fromkeys(texts))
        with torch.no_grad():
            shown = normalise_frames(
                images.to(device), self._config.short_side, self._config.long_side
            )
            frames, said = encode_frames(self._model, shown), self._encoded(distinct)
        frame = torch.tensor(rows, device=device)
        sentence = torch.tensor([distinct.index(text) for text in texts], device=device)
        found = []
        for start in range(0, len(rows), self._config.batch_pairs):
            part = slice(start, start + self._config.batch_pairs)
            captions = said.take(sentence[part])
            last = run_transformer(self._model, frames.take(frame[part]), captions)[-1]
            owner = torch.where(captions.content, 0, -1)
            score = sentence_scores(last.logits.float(), owner, 1, self._config)[:, 0]
            found.append((last.boxes.float(), score))
        return torch.cat([boxes for boxes, _ in found]), torch.cat([score for _, score in found])

    @torch.no_grad()
    def sentences(self, texts: Sequence[str]) -> Tensor:
        """Returns the mean feature of the words of each of n sentences: [n, C]."""
        found = self._encoded(texts)
        words = found.content[..., None].to(found.encoded.dtype)
        return (found.encoded * words).sum(1) / words.sum(1).clamp(min=1)

    def _encoded(self, texts: Sequence[str]) -> TextFeatures:
        return encode_texts(self._model, [as_caption(text) for text in texts])
