"""What half precision changes in the masks of the demo segmenter.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.precision [--frames 24] [--dtype bfloat16]

True boxes of objects of `shapes` are decoded in float32 and in half precision, with the same
weights. Printed are the IoU of both masks, over boxes, and how far logits move, as a share of their
mean size.

Half precision rounds a value in proportion to its size. The embeddings of larger models may lie far
from 0, with channels whose mean is many times their deviation; the demo model's do not. So the
embeddings are also rounded as if they were scaled and shifted by so many of their deviations, and
brought back in float32. The shifts are not those of a published model, which were not measured.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from pipeline.config import SegmentConfig
from pipeline.geometry import mask_iou
from stages.demo.segment import draw_prompts
from stages.segment.segmenter import SamSegmenter, load_segmenter

SHIFTS = (0.0, 1.0, 4.0, 16.0, 64.0)
SCALE = 7.3
CPU = torch.device("cpu")


def rounded(embedding: Tensor, shift: float, dtype: torch.dtype) -> Tensor:
    """Returns an embedding as half precision keeps it at another place.

    Args:
        embedding: float32.
        shift: distance from 0, in deviations of the embedding.
    """
    away = shift * embedding.std() * SCALE
    return ((embedding * SCALE + away).to(dtype).float() - away) / SCALE


def compared(frames: int, dtype: str, seed: int = 0) -> list[tuple[str, np.ndarray, float]]:
    """Returns, for each way, its name, the IoU with float32 of every mask, and how far logits
    move."""
    whole = load_segmenter(SegmentConfig(merge_iou=1), CPU)
    half = load_segmenter(SegmentConfig(merge_iou=1, dtype=dtype), CPU)
    ways: dict[str, list[tuple[np.ndarray, float]]] = {}
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        image, boxes, _ = draw_prompts(rng, 0.03)
        embedding, size = whole.embed([image])
        expected = _logits(whole, embedding, size, boxes)
        own, _ = half.embed([image])
        found = {"encoder and decoder": _logits(half, own, size, boxes)}
        for shift in SHIFTS:
            moved = rounded(embedding, shift, getattr(torch, dtype)).to(getattr(torch, dtype))
            found[f"decoder, shifted by {shift:g}"] = _logits(half, moved, size, boxes)
        for name, logits in found.items():
            far = float(np.abs(logits - expected).mean() / np.abs(expected).mean())
            ways.setdefault(name, []).append((mask_iou(logits > 0, expected > 0), far))
    return [
        (name, np.concatenate([iou for iou, _ in rows]), float(np.mean([far for _, far in rows])))
        for name, rows in ways.items()
    ]


def _logits(
    segmenter: SamSegmenter, embedding: Tensor, size: tuple[int, int], boxes: np.ndarray
) -> np.ndarray:
    [found] = segmenter.decode((embedding, size), [boxes])
    return found.logits[found.box_row].astype(np.float32)


def main(
    frames: Annotated[int, typer.Option(min=1)] = 24,
    dtype: Annotated[str, typer.Option(help="bfloat16 or float16")] = "bfloat16",
) -> None:
    """Prints a table of docs/performance.md."""
    print(f"| {dtype} | mean mask IoU with float32 | lowest | logits move by |\n|---|---|---|---|")
    for name, iou, far in compared(frames, dtype):
        print(f"| {name} | {iou.mean():.4f} | {iou.min():.3f} | {far:.2%} |")


if __name__ == "__main__":
    typer.run(main)
