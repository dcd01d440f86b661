"""What the tests of the stages share: one thread, and the small models with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Of a module, not of the session: students freeze the models that they are given.
@pytest.fixture(scope="module")
def small_sam() -> Any:
    """The demo segmenter with random weights; nothing that is trained."""
    from stages.segment.architecture import build_demo

    torch.manual_seed(7)
    sam = build_demo().eval()
    with torch.no_grad():  # zero at the start, they would leave parts of the arithmetic untried
        for name, weight in sam.named_parameters():
            if "rel_pos" in name or name.endswith("pos_embed"):
                weight.normal_(0, 0.1)
    return sam


@pytest.fixture(scope="module")
def small_dino() -> Any:
    """The demo grounder with random weights; nothing that is trained."""
    from stages.demo.tokenizer import build_tokenizer
    from stages.ground.architecture import build_demo

    torch.manual_seed(7)
    model = build_demo(build_tokenizer()).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("bbox_embed") or "bbox_embed" in name:
                weight.add_(torch.randn_like(weight) * 0.05)
            if "gamma" in name:  # layer scales that start at 1e-4 would hide the fusion
                weight.fill_(0.3)
    return model
