"""The demo trainers: their losses are small where the model is right, and training lowers them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.geometry import masks_to_boxes
from stages.demo import ground, segment
from stages.demo.ground import Example, draw_example, train_grounder
from stages.demo.phrases import Phrase
from stages.demo.segment import draw_prompts, predict, train_segmenter
from stages.ground.architecture import Predictions

CPU = torch.device("cpu")


def example() -> Example:
    """Two objects; the second sentence is of the second, the third of nobody."""
    masks = np.zeros((2, 40, 80), np.bool_)
    masks[0, 5:15, 10:30], masks[1, 20:36, 44:72] = True, True
    corners = torch.from_numpy(masks_to_boxes(masks) / [80, 40, 80, 40]).float()
    low, high = corners[:, :2], corners[:, 2:]
    phrases = (
        Phrase("a star", frozenset({0})),
        Phrase("the circle", frozenset({1})),
        Phrase("x", frozenset()),
    )
    says = np.array([[True, False], [False, True], [False, False]])
    image = np.zeros((40, 80, 3), np.uint8)
    return Example(image, phrases, torch.cat([(low + high) / 2, high - low], 1), says, masks)


def test_the_set_loss_is_small_for_right_predictions_in_any_order() -> None:
    item = example()
    owner = torch.tensor([[-1, 0, 0, -1, 1, 1, -1, 2, -1]])
    right = torch.full((1, 4, 9), -12.0)
    right[0, 3, 1:3] = 12  # the fourth query says the first sentence
    right[0, 1, 4:6] = 12
    boxes = torch.full((1, 4, 4), 0.5)
    boxes[0, 3], boxes[0, 1] = item.boxes[0], item.boxes[1]
    words, places = ground._set_loss(Predictions(right, boxes, boxes), owner, [item])
    assert float(words) < 1e-3 and float(places) < 1e-5
    moved = boxes.clone()
    moved[0, 1, 0] -= 0.2
    assert float(ground._set_loss(Predictions(right, moved, moved), owner, [item])[1]) > 0.3
    swapped = right.flip(1)
    assert float(ground._set_loss(Predictions(swapped, boxes, boxes), owner, [item])[0]) > 1
    padded = right.clone()
    padded[..., -1] = -torch.inf
    assert float(ground._set_loss(Predictions(padded, boxes, boxes), owner, [item])[0]) < 1e-3


def test_a_frame_that_no_sentence_is_true_of_teaches_silence() -> None:
    item = example()
    silent = Example(item.image, item.phrases[2:], item.boxes, item.says[2:], item.masks)
    owner = torch.tensor([[-1, 0, -1]])
    boxes = torch.full((1, 4, 4), 0.5)
    loud = ground._set_loss(Predictions(torch.full((1, 4, 3), 5.0), boxes, boxes), owner, [silent])
    quiet = ground._set_loss(
        Predictions(torch.full((1, 4, 3), -9.0), boxes, boxes), owner, [silent]
    )
    assert float(loud[0]) > 1 and float(quiet[0]) < 1e-3
    assert float(loud[1]) == float(quiet[1]) == 0


def test_matching_gives_every_object_a_query_of_its_own() -> None:
    item = example()
    logits, words = torch.zeros(4, 9), torch.zeros(9, 2, dtype=torch.bool)
    words[1:3, 0], words[4:6, 1] = True, True
    boxes = torch.full((4, 4), 0.5)
    boxes[2], boxes[0] = item.boxes[0], item.boxes[1]
    queries, objects = ground._match(logits, boxes, words, item.boxes)
    assert dict(zip(objects.tolist(), queries.tolist(), strict=True)) == {0: 2, 1: 0}


def test_two_steps_of_each_phase_change_the_grounder(small_dino: Any) -> None:
    model = copy.deepcopy(small_dino)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_grounder(model, bind_steps=1, steps=1, seed=0, device=CPU, batch=2)
    state = model.state_dict()
    changed = {name.split(".")[0] for name, value in state.items() if (value != before[name]).any()}
    assert {"backbone", "bert", "transformer", "feat_map", "input_proj"} <= changed
    assert all(torch.isfinite(value).all() for value in state.values())


def test_training_the_grounder_is_the_same_for_the_same_seed(small_dino: Any) -> None:
    made = []
    for seed in (4, 4, 5):
        model = copy.deepcopy(small_dino)
        torch.manual_seed(0)  # of BERT's dropout
        train_grounder(model, bind_steps=1, steps=1, seed=seed, device=CPU, batch=1)
        made.append(model.state_dict()["feat_map.weight"])
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_binding_lowers_its_loss_on_a_frame(small_dino: Any) -> None:
    model = copy.deepcopy(small_dino).train()
    ground._soften_similarities(model)
    examples = [draw_example(np.random.default_rng(8), 6, names_only=True) for _ in range(2)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss, _ = ground._bind_loss(model, examples, CPU)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_the_segmenter_learns_a_frame(small_sam: Any) -> None:
    sam = copy.deepcopy(small_sam).train()
    drawn = [draw_prompts(np.random.default_rng(9), 0.0)]
    optimiser = torch.optim.AdamW(sam.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss, overlap = segment._loss(sam, drawn, CPU)
        assert 0 <= overlap <= 1
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_two_steps_change_the_segmenter(small_sam: Any) -> None:
    sam = copy.deepcopy(small_sam)
    train_segmenter(sam, steps=2, seed=0, device=CPU, batch=1)
    before = small_sam.state_dict()
    changed = [name for name, value in sam.state_dict().items() if (value != before[name]).any()]
    assert {name.split(".")[0] for name in changed} >= {"image_encoder", "mask_decoder"}


def test_masks_are_predicted_at_the_frames_size(small_sam: Any) -> None:
    image, boxes, masks = draw_prompts(np.random.default_rng(1), 0.0)
    with torch.inference_mode():
        logits, quality = predict(
            small_sam,
            torch.from_numpy(np.stack([image, image])),
            torch.from_numpy(np.concatenate([boxes, boxes])),
            torch.repeat_interleave(torch.arange(2), len(boxes)),
        )
    assert logits.shape == (2 * len(boxes), *masks.shape[1:])
    assert quality.shape == (2 * len(boxes),)
    torch.testing.assert_close(logits[: len(boxes)], logits[len(boxes) :], rtol=1e-4, atol=1e-3)


def test_a_loss_looks_near_the_box_alone() -> None:
    near = segment._surroundings(torch.tensor([[30.0, 20.0, 50.0, 40.0]]), 64, 96, margin=5)
    assert near.shape == (1, 64, 96)
    rows, columns = torch.nonzero(near[0], as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (15, 44)
    assert (int(columns.min()), int(columns.max())) == (25, 54)


@pytest.mark.parametrize("count", [1, 4])
def test_examples_are_drawn_with_the_sentences_asked_for(count: int) -> None:
    assert len(draw_example(np.random.default_rng(0), count).phrases) == count
