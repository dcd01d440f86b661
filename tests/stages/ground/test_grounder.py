"""The grounder against groundingdino's own ``forward``, on the small model with random weights."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torchvision.ops import nms
from transformers import BertConfig

from pipeline.config import GroundConfig
from pipeline.errors import CheckpointError, ConfigError
from pipeline.geometry import box_iou
from stages.common.tokenizers import load_tokenizer
from stages.demo.tokenizer import build_tokenizer
from stages.ground import architecture, encoders, grounder
from stages.ground.architecture import (
    TextFeatures,
    build_demo,
    build_published,
    encode_frames,
    encode_texts,
    run_transformer,
)
from stages.ground.encoders import GroundingText, SwinPyramid
from stages.ground.grounder import GroundingDinoGrounder, join_captions, load_grounder
from stages.ground.ranked import SAME_BOX_IOU, best_boxes
from stages.ground.sentences import as_caption, sentence_scores

SHORT = "the red circle"
LONG = "a small blue star that is to the left of the green square"
TEXTS = (SHORT, LONG, "the triangle moving up", "an orange cross at the top")


def pixels(count: int, height: int = 72, width: int = 128) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def normalised(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 64, 112, generator=torch.Generator().manual_seed(2))


def make_grounder(model: Any, **changes: Any) -> GroundingDinoGrounder:
    return GroundingDinoGrounder(model, GroundConfig(**({"joint": 1, "short_side": 64} | changes)))


def ground(model: Any, frames: int, texts: tuple[str, ...], **changes: Any) -> list[Any]:
    made = make_grounder(model, **changes)
    return made.ground(made.embed(pixels(frames)), texts)


def assert_same_boxes(ours: list[Any], others: list[Any]) -> None:
    for one, other in zip(ours, others, strict=True):
        np.testing.assert_array_equal(one.text, other.text)
        np.testing.assert_array_equal(one.rank, other.rank)
        np.testing.assert_allclose(one.score, other.score, atol=1e-5)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-5 * 128)


@torch.inference_mode()
def assert_equals_the_package(model: Any, images: torch.Tensor, captions: list[str]) -> None:
    expected = model(images, captions=captions)
    found = run_transformer(model, encode_frames(model, images), encode_texts(model, captions))
    assert len(found) == 1 + model.transformer.num_decoder_layers
    length = found[-1].logits.shape[-1]
    logits = expected["pred_logits"]
    assert torch.isneginf(logits[..., length:]).all()
    assert logits[..., :length].isfinite().any()
    torch.testing.assert_close(found[-1].logits, logits[..., :length], rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found[-1].boxes, expected["pred_boxes"], rtol=0, atol=1e-5)
    assert expected["pred_boxes"].std(1).max() > 0.05, "the random model says something"


def test_the_parts_equal_the_packages_forward(small_dino: Any) -> None:
    for text in (SHORT, LONG):
        assert_equals_the_package(small_dino, normalised(1), [as_caption(text)])


def test_the_parts_equal_the_packages_forward_for_captions_of_one_length(small_dino: Any) -> None:
    captions = [as_caption("the red circle"), as_caption("the blue star")]
    assert_equals_the_package(small_dino, normalised(2), captions)


def test_the_parts_equal_the_packages_forward_with_several_sentences(small_dino: Any) -> None:
    assert_equals_the_package(small_dino, normalised(1), [" ".join(map(as_caption, TEXTS))])


def test_extra_feature_levels_are_made_as_the_package_makes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(architecture._DEMO, "num_feature_levels", 4)
    torch.manual_seed(3)
    model = build_demo(build_tokenizer()).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bbox_embed" in name:
                weight.add_(torch.randn_like(weight) * 0.05)
    assert_equals_the_package(model, normalised(1), [as_caption(LONG)])
    with torch.inference_mode():
        assert len(encode_frames(model, normalised(1)).maps) == 4


@torch.inference_mode()
def test_a_caption_is_encoded_the_same_alone_and_padded(small_dino: Any) -> None:
    captions = [as_caption(text) for text in TEXTS]
    together = encode_texts(small_dino, captions)
    for row, caption in enumerate(captions):
        alone = encode_texts(small_dino, [caption])
        cut = together.take(torch.tensor([row]))
        torch.testing.assert_close(cut.encoded, alone.encoded, rtol=0, atol=1e-5)
        for name in ("used", "attends", "positions", "content"):
            assert torch.equal(getattr(cut, name), getattr(alone, name)), name
        assert not together.used[row, alone.used.shape[1] :].any()


def test_a_caption_that_is_cut_is_said(small_dino: Any, caplog: pytest.LogCaptureFixture) -> None:
    words = "the red circle " * 100
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        found = encode_texts(small_dino, [as_caption(words), "a star."])
    assert found.used.sum(1).tolist() == [256, 5]
    (record,) = caplog.records
    assert "reads 256 of the 303 tokens of 'the red circle the red" in record.message


def test_words_are_told_from_special_tokens_and_full_stops(small_dino: Any) -> None:
    with torch.inference_mode():
        texts = encode_texts(small_dino, ["the red circle.", "a star."])
    assert texts.content.tolist() == [
        [False, True, True, True, False, False],
        [False, True, True, False, False, False],
    ]


MIXED = "groundingdino's text layers repeat the masks head by head, and a batch's get mixed up"


@torch.inference_mode()
def test_a_pair_gives_the_same_alone_and_in_a_batch(small_dino: Any) -> None:
    images, captions = normalised(2), [as_caption(SHORT), as_caption(LONG)]
    frames, texts = encode_frames(small_dino, images), encode_texts(small_dino, captions)
    batch = run_transformer(small_dino, frames, texts)[-1]
    for row, caption in enumerate(captions):
        alone = small_dino(images[row : row + 1], captions=[caption])
        length = int(texts.used[row].sum())
        torch.testing.assert_close(
            batch.logits[row, :, :length],
            alone["pred_logits"][0, :, :length],
            rtol=1e-5,
            atol=1e-3,
        )
        torch.testing.assert_close(batch.boxes[row], alone["pred_boxes"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_pairs", [3, 32])
def test_batches_of_any_size_give_the_same_boxes(small_dino: Any, batch_pairs: int) -> None:
    one_by_one = ground(small_dino, 2, TEXTS, batch_pairs=1)
    assert_same_boxes(ground(small_dino, 2, TEXTS, batch_pairs=batch_pairs), one_by_one)


def test_frames_give_the_same_boxes_alone_and_together(small_dino: Any) -> None:
    made = make_grounder(small_dino, batch_pairs=1)
    together = made.ground(made.embed(pixels(3)), TEXTS)
    for image, expected in zip(pixels(3), together, strict=True):
        assert_same_boxes(made.ground(made.embed([image]), TEXTS), [expected])


@torch.inference_mode()
def test_joined_captions_are_the_packages_caption_of_all_of_them(small_dino: Any) -> None:
    alone = [encode_texts(small_dino, [as_caption(text)]) for text in TEXTS]
    joined, owner = join_captions([alone, alone[:1]])
    expected = encode_texts(small_dino, [" ".join(map(as_caption, TEXTS))])
    first = joined.take(torch.tensor([0]))
    torch.testing.assert_close(first.encoded, expected.encoded, rtol=0, atol=1e-5)
    for name in ("used", "attends", "positions", "content"):
        assert torch.equal(getattr(first, name), getattr(expected, name)), name
    words = [len(text.split()) for text in TEXTS]
    assert [int((owner[0] == row).sum()) for row in range(len(TEXTS))] == words
    assert int((owner[1] >= 0).sum()) == words[0]
    second = joined.take(torch.tensor([1]))
    for name in ("used", "attends", "positions", "content"):
        assert torch.equal(getattr(second, name), getattr(alone[0], name)), name


def test_sentences_that_share_a_caption_are_each_answered(small_dino: Any) -> None:
    found = ground(small_dino, 2, TEXTS, joint=3, runner_ups=0)
    for boxes in found:
        assert boxes.text.tolist() == [0, 1, 2, 3]


def test_each_text_is_encoded_once_for_all_frames(
    small_dino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted(model: Any, captions: list[str]) -> TextFeatures:
        asked.extend(captions)
        return encode_texts(model, captions)

    monkeypatch.setattr(grounder, "encode_texts", counted)
    made = make_grounder(small_dino)
    for image in pixels(3):
        made.ground(made.embed([image]), (*TEXTS, TEXTS[0]))
    assert sorted(asked) == sorted(map(as_caption, TEXTS))


def test_texts_are_encoded_in_the_same_company_whatever_was_asked_before(
    small_dino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which decides their last bits: a run that was cut off is to end as one that was not."""
    batches: list[list[str]] = []

    def noted(model: Any, captions: list[str]) -> TextFeatures:
        batches.append(captions)
        return encode_texts(model, captions)

    monkeypatch.setattr(grounder, "encode_texts", noted)
    (expected,) = ground(small_dino, 1, TEXTS[1:])
    made = make_grounder(small_dino)
    embedding = made.embed(pixels(1))
    made.ground(embedding, TEXTS[:2])
    [found] = made.ground(embedding, TEXTS[1:])
    assert batches[-1] == batches[0]
    for name in ("xyxy", "score", "text", "rank"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_boxes_are_ranked_and_runner_ups_are_other_places(small_dino: Any) -> None:
    for boxes in ground(small_dino, 2, TEXTS, runner_ups=3):
        assert boxes.xyxy.dtype == boxes.score.dtype == np.float32
        assert boxes.text.dtype == boxes.rank.dtype == np.int32
        assert ((boxes.score >= 0) & (boxes.score <= 1)).all()
        assert (boxes.xyxy >= 0).all() and (boxes.xyxy <= [128, 72, 128, 72]).all()
        assert (boxes.xyxy[:, 2:] >= boxes.xyxy[:, :2]).all()
        for row in range(len(TEXTS)):
            own = boxes.text == row
            assert 1 <= own.sum() <= 4
            assert boxes.rank[own].tolist() == list(range(own.sum()))
            assert (np.diff(boxes.score[own]) <= 0).all()
            overlap = box_iou(boxes.xyxy[own], boxes.xyxy[own])
            np.fill_diagonal(overlap, 0)
            assert overlap.max() <= SAME_BOX_IOU + 1e-6
        assert (np.diff(boxes.text) >= 0).all(), "text by text"


@pytest.mark.parametrize("count", [1, 3, 12])
def test_best_boxes_are_what_non_maximum_suppression_leaves(count: int) -> None:
    random = torch.Generator().manual_seed(count)
    low = torch.rand(2, 9, 2, generator=random) * 5
    boxes = torch.cat([low, low + 20 + 8 * torch.rand(2, 9, 2, generator=random)], -1)
    scores = (torch.rand(2, 4, 9, generator=random) * 5).round() / 5  # Some are equal.
    corners, found = best_boxes(boxes, scores, count)
    assert corners.shape == (2, 4, count, 4) and found.shape == (2, 4, count)
    for pair in range(2):
        for sentence in range(4):
            own = scores[pair, sentence]
            kept = nms(boxes[pair], own, SAME_BOX_IOU)[:count]
            assert torch.equal(found[pair, sentence, : len(kept)], own[kept])
            assert torch.equal(corners[pair, sentence, : len(kept)], boxes[pair, kept])
            assert (found[pair, sentence, len(kept) :] == -1).all()
    assert count < 12 or 2 < (found >= 0).sum(-1).float().mean() < 9, "some overlap"


def test_the_best_box_is_the_query_most_similar_to_the_sentence(small_dino: Any) -> None:
    made = make_grounder(small_dino, runner_ups=0)
    [frame] = pixels(1)
    [found] = made.ground(made.embed([frame]), [LONG])
    with torch.inference_mode():
        features, _ = made.embed([frame])
        texts = encode_texts(small_dino, [as_caption(LONG)])
        last = run_transformer(small_dino, features, texts)[-1]
    chance = last.logits[0].sigmoid()[:, texts.content[0]].mean(1)
    assert found.score[0] == pytest.approx(float(chance.max()), abs=1e-5)
    x, y, w, h = last.boxes[0, int(chance.argmax())].tolist()
    corners = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1) * [128, 72, 128, 72]
    np.testing.assert_allclose(found.xyxy[0], corners, atol=1e-3)


def test_no_texts_give_no_boxes(small_dino: Any) -> None:
    for boxes in ground(small_dino, 2, ()):
        assert len(boxes) == 0 and boxes.xyxy.shape == (0, 4)
        assert boxes.score.shape == boxes.text.shape == boxes.rank.shape == (0,)
        assert boxes.text.dtype == np.int32


def test_scores_are_means_or_maxima_over_a_sentences_own_words() -> None:
    inf = float("inf")
    logits = torch.tensor([[[9.0, 0.0, 2.0, -1.0, 9.0, -inf], [9.0, 1.0, 1.0, 3.0, 9.0, -inf]]])
    owner = torch.tensor([[-1, 0, 0, 1, -1, -1]])
    chance = logits[0].sigmoid()
    mean = sentence_scores(logits, owner, 2, GroundConfig(score="mean"))
    assert mean.shape == (1, 2, 2)
    torch.testing.assert_close(mean[0, 0], chance[:, 1:3].mean(1))
    torch.testing.assert_close(mean[0, 1], chance[:, 3])
    most = sentence_scores(logits, owner, 2, GroundConfig(score="max"))
    torch.testing.assert_close(most[0, 0], chance[:, 1:3].amax(1))
    torch.testing.assert_close(most[0, 1], chance[:, 3])


@pytest.mark.parametrize("how", ["best", "mean", "max"])
def test_a_sentence_without_words_scores_nothing(how: Literal["best", "mean", "max"]) -> None:
    logits, owner = torch.full((1, 3, 4), 5.0), torch.full((1, 4), -1)
    found = sentence_scores(logits, owner, 1, GroundConfig(score=how))
    assert torch.equal(found[:, 0], torch.zeros(1, 3))


def test_numbers_that_overflow_are_an_error_and_not_an_absent_target(
    small_dino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflown(*args: Any) -> Any:
        [*_, last] = found = run_transformer(*args)
        last.logits[..., 0, :] = float("nan")
        return found

    monkeypatch.setattr(grounder, "run_transformer", overflown)
    with pytest.raises(ConfigError, match=r"ground\.dtype=float32.*bfloat16"):
        ground(small_dino, 1, TEXTS)


@pytest.mark.parametrize("texts", [("...",), ("...", SHORT)])
def test_a_text_without_words_gets_boxes_of_no_score(
    small_dino: Any, texts: tuple[str, ...]
) -> None:
    for joint in (1, 8):
        [boxes] = ground(small_dino, 1, texts, joint=joint)
        assert (boxes.score[boxes.text == 0] == 0).all()


def test_a_text_without_words_may_come_last(small_dino: Any) -> None:
    [boxes] = ground(small_dino, 1, (SHORT, "..."), joint=8)
    assert (boxes.score[boxes.text == 1] == 0).all()


def test_a_long_sentence_of_words_that_shapes_does_not_know(small_dino: Any) -> None:
    text = "a person wearing a dark leather jacket riding a shiny motorbike past a grey building"
    [boxes] = ground(small_dino, 1, (text,))
    assert len(boxes)


def test_half_precision_runs(small_dino: Any, tmp_path: Path) -> None:
    save_demo(small_dino, tmp_path)
    config = GroundConfig(checkpoint=str(tmp_path), dtype="bfloat16")
    loaded = load_grounder(config, torch.device("cpu"))
    [boxes] = loaded.ground(loaded.embed(pixels(1)), [SHORT])
    assert np.isfinite(boxes.xyxy).all()


def save_demo(model: Any, folder: Path) -> None:
    build_tokenizer().save_pretrained(folder)
    save_file(
        {name: value.clone() for name, value in model.state_dict().items()},
        folder / "model.safetensors",
    )


def test_a_saved_model_grounds_as_before(small_dino: Any, tmp_path: Path) -> None:
    save_demo(small_dino, tmp_path)
    config = GroundConfig(checkpoint=str(tmp_path), short_side=64, joint=1, batch_pairs=1)
    loaded = load_grounder(config, torch.device("cpu"))
    found = loaded.ground(loaded.embed(pixels(2)), TEXTS)
    assert_same_boxes(found, ground(small_dino, 2, TEXTS, batch_pairs=1))


def test_another_models_weights_are_refused_by_name(small_dino: Any, tmp_path: Path) -> None:
    save_demo(small_dino, tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    config = GroundConfig(checkpoint=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*missing.*of a GroundingDINO"):
        load_grounder(config, torch.device("cpu"))


def test_truncated_weights_are_refused_by_name(small_dino: Any, tmp_path: Path) -> None:
    save_demo(small_dino, tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*does not load"):
        load_grounder(GroundConfig(checkpoint=str(tmp_path)), torch.device("cpu"))


def test_weights_of_another_digest_are_refused(small_dino: Any, tmp_path: Path) -> None:
    save_demo(small_dino, tmp_path)
    config = GroundConfig(checkpoint=str(tmp_path), sha256="0" * 64)
    with pytest.raises(CheckpointError, match="expected sha256 0000"):
        load_grounder(config, torch.device("cpu"))


def test_a_published_model_needs_its_text_encoder(tmp_path: Path) -> None:
    (tmp_path / "swint.pth").touch()
    config = GroundConfig(checkpoint=str(tmp_path / "swint.pth"), backbone="swin_T_224_1k")
    with pytest.raises(CheckpointError, match=r"ground\.text_encoder is not set"):
        load_grounder(config, torch.device("cpu"))


def test_the_students_backbone_gives_the_grounders_maps_and_a_finer_one(small_dino: Any) -> None:
    pyramid = SwinPyramid().eval()
    pyramid.start_from(small_dino)
    images = normalised(1)
    with torch.inference_mode():
        maps = pyramid(images)
        features, _ = small_dino.backbone(architecture.NestedTensor(images, images[:, 0] > 1e9))
    assert [images.shape[-1] // item.shape[-1] for item in maps] == [4, 8, 16]
    assert tuple(item.shape[1] for item in maps) == tuple(pyramid.channels)
    for ours, theirs in zip(maps[1:], features, strict=True):
        torch.testing.assert_close(ours, theirs.tensors, rtol=0, atol=1e-5)


def test_the_students_words_are_the_grounders(small_dino: Any) -> None:
    encoder = GroundingText(small_dino)
    words, usable = encoder([SHORT, LONG])
    assert usable.sum(1).tolist() == [3, 13]
    with torch.inference_mode():
        alone = encode_texts(small_dino, [as_caption(SHORT)])
    torch.testing.assert_close(words[0, : alone.encoded.shape[1]], alone.encoded[0])
    again, _ = encoder([LONG, SHORT])
    assert torch.equal(again[1], words[0])
    assert not words.requires_grad


def test_the_students_words_are_kept_in_bounds_and_the_same_in_any_company(
    small_dino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = GroundingText(small_dino)([SHORT])
    asked: list[str] = []

    def counted(model: Any, captions: list[str]) -> TextFeatures:
        asked.extend(captions)
        return encode_texts(model, captions)

    monkeypatch.setattr(encoders, "encode_texts", counted)
    monkeypatch.setattr(encoders, "_CACHED_TEXTS", 2)
    encoder = GroundingText(small_dino)
    for texts in ([SHORT, LONG], [LONG, SHORT], ["a star"], [LONG, SHORT]):
        words, _ = encoder(texts)
    assert torch.equal(words[1, : alone.shape[1]], alone[0])
    assert asked.count(as_caption(SHORT)) == 2, "once, and again once it was forgotten"


@pytest.mark.slow
def test_a_full_size_checkpoint_in_the_published_layout_grounds(
    tmp_path: Path, real_data: Path
) -> None:
    bert = tmp_path / "bert"
    bert.mkdir()
    vocabulary = real_data / "tokenizers" / "bert-base-uncased"
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(vocabulary / name, bert / name)
    BertConfig().save_pretrained(bert)
    torch.manual_seed(0)
    model = build_published("swin_T_224_1k", load_tokenizer(bert, "", ""), BertConfig())
    tensors = {f"module.{name}": value for name, value in model.state_dict().items()}
    tensors["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save({"model": tensors}, tmp_path / "groundingdino_swint_ogc.pth")
    del model, tensors
    config = GroundConfig(
        checkpoint=str(tmp_path / "groundingdino_swint_ogc.pth"),
        backbone="swin_T_224_1k",
        text_encoder=bert,
        short_side=160,
        long_side=320,
        joint=1,
    )
    loaded = load_grounder(config, torch.device("cpu"))
    texts = ("a dog on the left", "the person riding a horse")
    [found] = loaded.ground(loaded.embed(pixels(1)), texts)
    assert set(found.text.tolist()) == {0, 1}
    assert (found.xyxy >= 0).all() and (found.xyxy <= [128, 72, 128, 72]).all()
    assert np.isfinite(found.score).all()
    with torch.inference_mode():
        frames, _ = loaded.embed(pixels(1))
        encoded = encode_texts(loaded._model, [as_caption(texts[0])])
        again = run_transformer(loaded._model, frames, replace(encoded))[-1]
    assert again.boxes.shape == (1, 900, 4)
