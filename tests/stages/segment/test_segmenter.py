"""The segmenter against segment-anything's own code, on the small model with random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from segment_anything import SamPredictor, sam_model_registry
from torch import Tensor

from pipeline.config import SegmentConfig
from pipeline.errors import CheckpointError
from pipeline.geometry import box_iou
from stages.common.mask_resolution import enlarge, low_resolution_size
from stages.segment.architecture import build_demo, encode_frames
from stages.segment.decoder import decode_boxes
from stages.segment.segmenter import SamSegmenter, load_segmenter, merge_boxes

SIZES = {"landscape": (72, 128), "portrait": (150, 90), "square": (100, 100)}


def frames(count: int, height: int, width: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Smooth frames, so that a resize is well defined."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    made = []
    for _ in range(count):
        waves = [
            np.sin(x * rng.uniform(2, 12) + y * rng.uniform(2, 12) + rng.uniform(0, 6))
            for _ in range(3)
        ]
        made.append((127 + 120 * np.stack(waves, -1)).astype(np.uint8))
    return made


def boxes_in(count: int, height: int, width: int, seed: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.5, (count, 2)) * (width, height)
    high = low + rng.uniform(0.2, 0.5, (count, 2)) * (width, height)
    return np.concatenate([low, high], 1).astype(np.float32)


def segmenter(sam: Any, **changes: Any) -> SamSegmenter:
    return SamSegmenter(sam, SegmentConfig(**({"merge_iou": 1.0} | changes)))


@pytest.fixture(scope="module")
def lively_sam(small_sam: Any) -> Any:
    """With attentions that prefer some tokens, as trained ones do; random ones are near even."""
    sam = copy.deepcopy(small_sam)
    torch.manual_seed(8)
    with torch.no_grad():
        for name, weight in sam.mask_decoder.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(4)
            elif "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    return sam


def of_package(sam: Any, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Whole low-resolution masks and predicted IoU of one frame's boxes."""
    sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
    masks, quality = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return masks[:, 0], quality[:, 0]


@pytest.mark.parametrize("shape", SIZES)
def test_many_frames_in_one_pass_equal_the_package_frame_by_frame(
    lively_sam: Any, shape: str
) -> None:
    height, width = SIZES[shape]
    images = torch.from_numpy(np.stack(frames(3, height, width)))
    counts = [2, 1, 3]
    side = lively_sam.image_encoder.img_size
    scale = side / max(height, width)
    asked = [torch.from_numpy(boxes_in(n, height, width, seed=n)) * scale for n in counts]
    with torch.inference_mode():
        embeddings = encode_frames(lively_sam, images)
        rows = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        masks, quality = decode_boxes(
            lively_sam, embeddings, rows, torch.cat(asked), (height, width)
        )
        expected = [
            of_package(lively_sam, embeddings[frame : frame + 1], boxes)
            for frame, boxes in enumerate(asked)
        ]
    whole = torch.cat([item for item, _ in expected])
    assert masks.shape[1:] == low_resolution_size(height, width, side)
    cut = whole[:, : masks.shape[1], : masks.shape[2]]
    torch.testing.assert_close(masks, cut, rtol=1e-4, atol=1e-5 * float(cut.std()))
    torch.testing.assert_close(
        quality, torch.cat([item for _, item in expected]), rtol=1e-4, atol=1e-5
    )
    assert masks.std() > 1e-3, "the random model says something"


def test_the_decoder_learns_as_the_packages_does(lively_sam: Any) -> None:
    images = torch.from_numpy(np.stack(frames(1, 72, 128)))
    boxes = torch.from_numpy(boxes_in(3, 72, 128)) * (lively_sam.image_encoder.img_size / 128)
    learned = dict(lively_sam.mask_decoder.named_parameters())
    embeddings = encode_frames(lively_sam, images).detach()

    def gradients(masks: Tensor, quality: Tensor) -> dict[str, Tensor]:
        loss = masks.square().mean() + quality.sum()
        # No score depends on the bias of the keys, so one side may leave it out.
        found = torch.autograd.grad(loss, list(learned.values()), materialize_grads=True)
        return dict(zip(learned, found, strict=True))

    masks, quality = of_package(lively_sam, embeddings, boxes)
    rows, columns = low_resolution_size(72, 128, lively_sam.image_encoder.img_size)
    theirs = gradients(masks[:, :rows, :columns], quality)
    frame = torch.zeros(3, dtype=torch.long)
    ours = gradients(*decode_boxes(lively_sam, embeddings, frame, boxes, (72, 128)))
    largest = max(float(item.abs().max()) for item in theirs.values())
    assert largest > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("shape", SIZES)
def test_masks_equal_those_of_sam_predictor(small_sam: Any, shape: str) -> None:
    height, width = SIZES[shape]
    images = frames(2, height, width, seed=3)
    asked = [boxes_in(3, height, width, seed=5), boxes_in(2, height, width, seed=6)]
    ours = segmenter(small_sam)
    found = ours.decode(ours.embed(images), asked)
    predictor = SamPredictor(small_sam)
    for image, boxes, candidates in zip(images, asked, found, strict=True):
        predictor.set_image(image)
        logits = enlarge(torch.from_numpy(candidates.logits), height, width).numpy()
        for row, box in enumerate(boxes):
            theirs, quality, _ = predictor.predict(
                box=box, multimask_output=False, return_logits=True
            )
            near = 0.02 * np.abs(theirs[0]).max()
            differs = (logits[row] > 0) != (theirs[0] > 0)
            assert not (differs & (np.abs(theirs[0]) > near)).any()
            assert np.abs(logits[row] - theirs[0]).max() < near
            assert 0.02 < (theirs[0] > 0).mean() < 0.98, "there is a mask to compare"
            assert candidates.predicted_iou[row] == pytest.approx(
                float(np.clip(quality[0], 0, 1)), abs=0.01
            )


def test_batches_of_any_size_give_the_same(small_sam: Any) -> None:
    images = frames(3, 72, 128)
    asked = [boxes_in(n, 72, 128, seed=n) for n in (3, 0, 2)]
    whole = segmenter(small_sam).decode(segmenter(small_sam).embed(images), asked)
    for size in (1, 2):
        small = segmenter(small_sam, batch_pairs=size)
        for one, other in zip(small.decode(small.embed(images), asked), whole, strict=True):
            np.testing.assert_allclose(
                one.logits.astype(np.float32), other.logits.astype(np.float32), atol=2e-3
            )
            np.testing.assert_allclose(one.predicted_iou, other.predicted_iou, atol=1e-5)


def test_frames_without_boxes(small_sam: Any) -> None:
    ours = segmenter(small_sam)
    none = np.zeros((0, 4), np.float32)
    found = ours.decode(ours.embed(frames(2, 72, 128)), [none, none])
    one = ours.decode(ours.embed(frames(1, 72, 128)), [boxes_in(1, 72, 128)])[0]
    for candidates in found:
        assert len(candidates) == 0
        assert candidates.logits.shape == (0, *one.logits.shape[1:])
        assert candidates.logits.dtype == np.float16
        assert candidates.predicted_iou.shape == candidates.stability.shape == (0,)
        assert candidates.box_row.shape == (0,) and candidates.box_row.dtype == np.int32


def test_logits_cover_the_frame_and_not_the_padding(small_sam: Any) -> None:
    ours = segmenter(small_sam)
    for height, width in SIZES.values():
        found = ours.decode(ours.embed(frames(1, height, width)), [boxes_in(1, height, width)])[0]
        cells = small_sam.image_encoder.img_size / 4
        scale = cells / max(height, width)
        rows, columns = found.logits.shape[1:]
        assert max(rows, columns) == cells
        assert rows - height * scale < 2 and columns - width * scale < 2


def test_stability_is_the_overlap_of_a_strict_and_a_loose_mask(small_sam: Any) -> None:
    ours = segmenter(small_sam)
    found = ours.decode(ours.embed(frames(1, 72, 128)), [boxes_in(4, 72, 128)])[0]
    for logits, stability in zip(found.logits, found.stability, strict=True):
        strict, loose = logits > 1, logits > -1
        assert stability == pytest.approx(strict.sum() / max((strict | loose).sum(), 1), abs=1e-6)
        assert 0 <= stability <= 1


def test_equal_boxes_are_decoded_once() -> None:
    box = np.array([[1, 2, 30, 40]], np.float32)
    other = np.array([[1, 2, 30, 41]], np.float32)
    kept, row = merge_boxes(np.concatenate([box, other, box, other, box]), 1.0)
    assert kept.tolist() == [0, 1] and row.tolist() == [0, 1, 0, 1, 0]


def test_near_boxes_share_a_mask_from_the_threshold_on() -> None:
    boxes = np.array([[0, 0, 100, 10], [0, 0, 96, 10], [0, 0, 90, 10]], np.float32)
    assert merge_boxes(boxes, 0.95)[1].tolist() == [0, 0, 1]
    assert merge_boxes(boxes, 0.96)[1].tolist() == [0, 0, 1], "at the threshold, too"
    assert merge_boxes(boxes, 0.97)[1].tolist() == [0, 1, 2]
    assert merge_boxes(boxes, 0.9)[1].tolist() == [0, 0, 0]


@given(
    st.lists(
        st.tuples(*(st.integers(0, 20) for _ in range(2)), *(st.integers(1, 12) for _ in range(2))),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
    st.randoms(use_true_random=False),
)
def test_which_box_answers_does_not_depend_on_their_order(
    made: list[tuple[int, int, int, int]], iou: float, random: Any
) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in made], np.float32)
    order = list(range(len(boxes)))
    random.shuffle(order)
    kept, row = merge_boxes(boxes, iou)
    shuffled, shuffled_row = merge_boxes(boxes[order], iou)
    np.testing.assert_array_equal(boxes[order][shuffled][shuffled_row], boxes[kept][row][order])


def test_the_box_that_most_are_near_answers_for_the_rest() -> None:
    boxes = np.array([[0, 0, 90, 10], [0, 0, 96, 10], [0, 0, 100, 10]], np.float32)
    assert merge_boxes(boxes, 0.93)[0].tolist() == [1]


def test_no_boxes_merge_to_none() -> None:
    kept, row = merge_boxes(np.zeros((0, 4), np.float32), 0.9)
    assert kept.shape == row.shape == (0,)


@given(
    st.lists(
        st.tuples(*(st.integers(0, 20) for _ in range(2)), *(st.integers(0, 12) for _ in range(2))),
        max_size=12,
    ),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
)
def test_every_box_is_near_the_one_that_answers_it(
    made: list[tuple[int, int, int, int]], iou: float
) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in made], np.float32).reshape(-1, 4)
    kept, row = merge_boxes(boxes, iou)
    assert sorted(set(row.tolist())) == list(range(len(kept)))
    assert kept.tolist() == sorted(kept.tolist())
    for index, place in enumerate(row):
        answer = boxes[kept[place]]
        same = (boxes[index] == answer).all()
        assert same or box_iou(boxes[index : index + 1], answer[None])[0, 0] >= iou
    for place, index in enumerate(kept):
        assert row[index] == place, "a decoded box answers itself"


def test_a_shared_mask_is_the_mask_of_the_box_that_stands_for_it(small_sam: Any) -> None:
    images, boxes = frames(1, 72, 128), boxes_in(2, 72, 128)
    ours = segmenter(small_sam)
    asked = np.concatenate([boxes, boxes[:1]])
    found = ours.decode(ours.embed(images), [asked])[0]
    assert len(found) == 2 and found.box_row.tolist() == [0, 1, 0]
    alone = ours.decode(ours.embed(images), [boxes[1:]])[0]
    np.testing.assert_allclose(
        found.logits[1].astype(np.float32), alone.logits[0].astype(np.float32), atol=2e-3
    )


def test_merged_boxes_have_their_representatives_mask_and_others_their_own(small_sam: Any) -> None:
    near = np.array([[10, 10, 60, 60], [10, 10, 62, 60], [10, 10, 64, 60]], np.float32)
    asked = np.concatenate([near, boxes_in(2, 72, 128, seed=8)])
    exact, merging = segmenter(small_sam), segmenter(small_sam, merge_iou=0.95)
    embedding = exact.embed(frames(1, 72, 128))
    [own], [shared] = exact.decode(embedding, [asked]), merging.decode(embedding, [asked])
    assert len(own) == 5 and len(shared) == 3
    for box, answer in enumerate((1, 1, 1, 3, 4)):
        np.testing.assert_allclose(
            shared.logits[shared.box_row[box]].astype(np.float32),
            own.logits[own.box_row[answer]].astype(np.float32),
            atol=2e-3,
        )
    assert (own.logits[0] != own.logits[1]).any(), "merging changes something here"


def test_a_checkpoint_of_the_demo_model_loads(small_sam: Any, tmp_path: Path) -> None:
    save_file(small_sam.state_dict(), tmp_path / "model.safetensors")
    config = SegmentConfig(checkpoint=str(tmp_path), merge_iou=1.0, attention="explicit")
    loaded = load_segmenter(config, torch.device("cpu"))
    images, boxes = frames(1, 72, 128), [boxes_in(2, 72, 128)]
    ours = segmenter(small_sam)
    expected = ours.decode(ours.embed(images), boxes)[0]
    found = loaded.decode(loaded.embed(images), boxes)[0]
    np.testing.assert_array_equal(found.logits, expected.logits)
    # The file itself is as good a name for it as its folder.
    file = config.model_copy(update={"checkpoint": str(tmp_path / "model.safetensors")})
    loaded = load_segmenter(file, torch.device("cpu"))
    np.testing.assert_array_equal(
        loaded.decode(loaded.embed(images), boxes)[0].logits, expected.logits
    )


def test_another_models_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*missing.*of a Sam"):
        load_segmenter(SegmentConfig(checkpoint=str(tmp_path)), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="sha256"):
        load_segmenter(
            SegmentConfig(checkpoint=str(tmp_path), sha256="0" * 64), torch.device("cpu")
        )


def test_half_precision_changes_masks_little(small_sam: Any, tmp_path: Path) -> None:
    save_file(small_sam.state_dict(), tmp_path / "model.safetensors")
    images, boxes = frames(1, 72, 128), [boxes_in(2, 72, 128)]
    results = []
    for dtype in ("float32", "bfloat16"):
        config = SegmentConfig(checkpoint=str(tmp_path), merge_iou=1.0, dtype=dtype)
        loaded = load_segmenter(config, torch.device("cpu"))
        results.append(loaded.decode(loaded.embed(images), boxes)[0])
    full, half = (item.logits.astype(np.float32) for item in results)
    assert np.abs(full - half).mean() < 0.05 * np.abs(full).mean() + 0.05


@pytest.mark.slow
def test_a_full_size_checkpoint_loads_and_makes_masks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sam_model_registry["vit_b"]()
    torch.save(model.state_dict(), tmp_path / "sam_vit_b.pth")
    del model
    config = SegmentConfig(checkpoint=str(tmp_path / "sam_vit_b.pth"), model="vit_b")
    loaded = load_segmenter(config, torch.device("cpu"))
    asked = [boxes_in(2, 180, 320), np.zeros((0, 4), np.float32)]
    found = loaded.decode(loaded.embed(frames(2, 180, 320)), asked)
    assert [len(item) for item in found] == [2, 0]
    assert found[0].logits.shape == (2, 145, 256)
    assert np.isfinite(found[0].logits).all() and np.isfinite(found[0].predicted_iou).all()
    assert enlarge(torch.from_numpy(found[0].logits), 180, 320).shape == (2, 180, 320)
    with (tmp_path / "sam_vit_b.pth").open("r+b") as file:
        file.truncate(100_000_000)
    with pytest.raises(CheckpointError, match=r"sam_vit_b\.pth.*does not load"):
        load_segmenter(config, torch.device("cpu"))


def test_the_demo_model_is_small() -> None:
    assert sum(weight.numel() for weight in build_demo().parameters()) < 1_000_000
