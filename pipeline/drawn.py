"""Masks that people draw, by clicks and boxes or in another tool. Letters: H W pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PseudoLabelError

LONGEST = 1 << 20
"""Letters of a mask's run lengths; a mask of a 4K frame has some thousands."""


@dataclass(frozen=True)
class Drawn:
    """A mask of one frame.

    Attributes:
        frame: position of the frame.
        size: (H, W).
        counts: its run lengths, as COCO packs them into text.
    """

    frame: int
    size: tuple[int, int]
    counts: str

    def __post_init__(self) -> None:
        if type(self.frame) is not int or self.frame < 0:
            raise ValueError(f"a mask of frame {self.frame!r:.40}")
        if not isinstance(self.counts, str) or len(self.counts) > LONGEST:
            raise ValueError(f"counts are no text of at most {LONGEST} letters")

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask [H, W]. Raises PseudoLabelError if it is none."""
        # Loads pycocotools, which few commands need.
        from pipeline.coco import decode_rle

        return decode_rle({"size": list(self.size), "counts": self.counts})

    def as_json(self) -> dict[str, Any]:
        """Returns the object that stands for it in ``review.jsonl``: a COCO RLE with its frame."""
        return {"frame": self.frame, "size": list(self.size), "counts": self.counts}

    @classmethod
    def from_json(cls, values: object) -> Drawn:
        """Reads what :meth:`as_json` returns. Raises ValueError if it is something else."""
        size = values.get("size") if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping) or not isinstance(size, list | tuple) or len(size) != 2:
            raise ValueError("expected a mask with frame, size [H, W] and counts")
        found = cls(values.get("frame", -1), (size[0], size[1]), values.get("counts", ""))
        try:
            found.mask  # noqa: B018 - raises if the runs do not make up the size
        except PseudoLabelError as error:
            raise ValueError(str(error)) from error
        return found

    @classmethod
    def of(cls, frame: int, mask: NDArray[np.bool_]) -> Drawn:
        """Returns a mask [H, W] of a frame."""
        from pipeline.coco import encode_rle

        packed = encode_rle(mask)
        return cls(frame, (mask.shape[0], mask.shape[1]), packed["counts"])
