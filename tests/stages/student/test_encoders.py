"""Published encoders: shapes at any size, what is frozen, and what a wrong file is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.video import swin3d_t
from torchvision.ops import FrozenBatchNorm2d

from pipeline.config import StudentEncodersConfig
from pipeline.errors import CheckpointError
from stages.student.encoders import (
    ResNetPyramid,
    VideoSwinPyramid,
    build_encoders,
    load_backbone,
)
from stages.student.simrvos.model import SimRVOS, feature_maps
from stages.student.text_encoders import FrozenText
from tests.fakes.student import TinyImages, TinyWords

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def resnet() -> ResNetPyramid:
    torch.manual_seed(0)
    made = load_backbone("resnet50", None)
    assert isinstance(made, ResNetPyramid)
    return made


@pytest.fixture(scope="module")
def swin() -> VideoSwinPyramid:
    torch.manual_seed(0)
    made = load_backbone("video-swin-t", None)
    assert isinstance(made, VideoSwinPyramid)
    return made.eval()


def never() -> tuple[TinyImages, TinyWords]:
    raise AssertionError("the demo encoders were asked for")


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 64), (70, 100)])
@pytest.mark.parametrize("name", ["resnet", "swin"])
def test_maps_are_at_strides_4_to_32(
    name: str, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    encoder = request.getfixturevalue(name)
    maps = feature_maps(encoder, torch.randn(2, 3, *size))
    assert [tuple(found.shape) for found in maps] == [
        (2, count, -(-size[0] // stride), -(-size[1] // stride))
        for count, stride in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]


@torch.no_grad()
def test_frames_of_a_clip_see_each_other_and_those_of_another_do_not(
    swin: VideoSwinPyramid,
) -> None:
    frames = torch.randn(5, 3, 32, 32)
    together = swin.maps_of_clips(frames, [2, 1, 2])
    for part in (slice(0, 2), slice(2, 3), slice(3, 5)):
        apart = swin(frames[part])
        for found, expected in zip(together, apart, strict=True):
            torch.testing.assert_close(found[part], expected, rtol=1e-4, atol=1e-4)
    other = frames.clone()
    other[1] += 1
    changed = swin.maps_of_clips(other, [2, 1, 2])[-1]
    assert not torch.allclose(changed[0], together[-1][0], atol=1e-4)
    torch.testing.assert_close(changed[2:], together[-1][2:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_frame_has_its_own_patch_and_the_published_network_is_run(
    swin: VideoSwinPyramid,
) -> None:
    frames = torch.randn(3, 3, 32, 32)
    net = swin.net
    twice = torch.stack([frames[t // 2] for t in range(6)], dim=1)[None]
    expected = net.norm(net.features(net.patch_embed(twice)))
    found = swin(frames)[-1]
    torch.testing.assert_close(found, expected[0].permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_clips_that_are_not_the_frames_are_refused(swin: VideoSwinPyramid) -> None:
    with pytest.raises(ValueError, match="3 frames"):
        swin.maps_of_clips(torch.zeros(3, 3, 32, 32), [2, 2])


def test_lengths_reach_a_video_encoder_through_the_student() -> None:
    class Noting(TinyImages):
        def maps_of_clips(self, images: Tensor, lengths: Sequence[int]) -> list[Tensor]:
            self.asked = list(lengths)
            return self.forward(images)

    encoder = Noting()
    student = SimRVOS(encoder, TinyWords(), 32)
    student.look(torch.zeros(3, 3, 32, 32), ["a", "a", "b"], lengths=[2, 1])
    assert encoder.asked == [2, 1]
    student.look(torch.zeros(3, 3, 32, 32), ["a", "a", "b"])
    assert encoder.asked == [3]


def test_batch_norm_stays_frozen_in_training(resnet: ResNetPyramid) -> None:
    norms = [part for part in resnet.modules() if isinstance(part, FrozenBatchNorm2d)]
    assert len(norms) == 53
    assert not any(isinstance(part, nn.BatchNorm2d) for part in resnet.modules())
    before = {name: value.clone() for name, value in resnet.named_buffers()}
    resnet.train()
    maps = resnet(torch.randn(2, 3, 32, 32))
    maps[-1].sum().backward()
    assert before.keys() == dict(resnet.named_buffers()).keys() and before
    assert all(torch.equal(value, before[name]) for name, value in resnet.named_buffers())
    assert all(weight.grad is not None for weight in resnet.parameters())
    resnet.zero_grad()


@torch.no_grad()
@pytest.mark.parametrize(("name", "make"), [("resnet50", resnet50), ("video-swin-t", swin3d_t)])
def test_torchvisions_own_file_loads(
    name: str, make: Callable[..., nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    published = make(weights=None)
    path = tmp_path / "weights.pth"
    torch.save(published.state_dict(), path)
    loaded = load_backbone(name, path)
    assert isinstance(loaded, nn.Module)
    wanted = published.state_dict()
    found = loaded.net.state_dict()  # type: ignore[union-attr]
    assert set(wanted) - set(found) <= {
        key for key in wanted if key.startswith(("fc.", "head.")) or "num_batches" in key
    }
    assert all(torch.equal(value, wanted[key]) for key, value in found.items())


def test_wrong_backbone_files_are_answered_in_one_error(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pth"
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file.*backbone_checkpoint"):
        load_backbone("resnet50", absent)
    other = tmp_path / "other.pth"
    torch.save(resnet50(weights=None).state_dict(), other)
    with pytest.raises(CheckpointError, match=r"other\.pth: parameters .* missing .*ResNet"):
        load_backbone("resnet101", other)
    with pytest.raises(CheckpointError, match=r"other\.pth: .*of another model"):
        load_backbone("video-swin-t", other)
    other.write_bytes(other.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"other\.pth: it does not load"):
        load_backbone("resnet50", other)


def test_a_checkpoint_without_a_backbone_to_take_it_is_refused() -> None:
    with pytest.raises(ValueError, match="backbone 'demo'"):
        StudentEncodersConfig(backbone_checkpoint=Path("w.pth"))


# Text encoders.


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random RoBERTa of two layers with a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "the", "a", "red", "blue", "circle", "square"]
    ids = {word: row for row, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(ids),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def encoder_of(folder: Path) -> FrozenText:
    config = StudentEncodersConfig(backbone="resnet50", text_encoder=folder)
    _, texts = build_encoders(config, never, CPU)
    assert isinstance(texts, FrozenText)
    return texts


def test_words_alone_are_kept_and_company_changes_no_bit(roberta: Path) -> None:
    encoder = encoder_of(roberta)
    words, usable = encoder(["the red circle", "a square", "the red circle"])
    assert words.shape == (3, 3, 16) == (*usable.shape, encoder.channels)
    assert usable.tolist() == [[True] * 3, [True, True, False], [True] * 3]
    assert torch.equal(words[0], words[2]) and not words.requires_grad
    alone, _ = encoder_of(roberta)(["a square"])
    assert torch.equal(words[1, :2], alone[0])


def test_the_pooled_output_is_given_where_it_was_trained(roberta: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file
    from transformers import AutoModel, AutoTokenizer

    encoder = encoder_of(roberta)
    found = encoder.pooled(["the red circle", "a square"])
    assert found is not None and found.shape == (2, 16)
    model: Any = AutoModel.from_pretrained(roberta).eval()
    tokens = AutoTokenizer.from_pretrained(roberta)(["a square"], return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens).pooler_output
    torch.testing.assert_close(found[1:], expected)
    bare = tmp_path / "bare"
    shutil.copytree(roberta, bare)
    kept = load_file(bare / "model.safetensors")
    kept = {name: value for name, value in kept.items() if not name.startswith("pooler.")}
    save_file(kept, bare / "model.safetensors", {"format": "pt"})
    assert encoder_of(bare).pooled(["a square"]) is None, "random weights say nothing"
    assert torch.equal(encoder_of(bare)(["a square"])[0], encoder(["a square"])[0])


def test_a_sentence_longer_than_the_model_is_cut_and_said(
    roberta: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        words, usable = encoder_of(roberta)([" ".join(["red"] * 40), "", "red"])
    (record,) = caplog.records
    assert "reads 10 of the 42 tokens of 'red red" in record.message
    assert words.shape[1] == 8, "12 positions, less two for padding and two special tokens"
    assert usable[1].sum() > 0, "a sentence without a word has its special tokens"


def test_text_encoders_that_are_no_such_are_answered_in_one_error(
    roberta: Path, tmp_path: Path
) -> None:
    import shutil

    with pytest.raises(CheckpointError, match=r"nowhere: no such folder.*text_encoder"):
        encoder_of(tmp_path / "nowhere")
    for name, answer in (
        ("config.json", r"config\.json: no such file"),
        ("model.safetensors", r"no \*\.safetensors in it"),
        ("tokenizer.json", "no tokenizer in it"),
    ):
        folder = tmp_path / name.partition(".")[0]
        shutil.copytree(roberta, folder)
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=answer):
            encoder_of(folder)
    cut = tmp_path / "cut"
    shutil.copytree(roberta, cut)
    (cut / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cut: it does not load"):
        encoder_of(cut)


def test_weights_that_lack_parameters_are_refused(roberta: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "lacking"
    shutil.copytree(roberta, folder)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layer.1" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 parameters missing .*layer\.1"):
        encoder_of(folder)


def test_demo_encoders_are_asked_for_where_they_are_named() -> None:
    images, words = TinyImages(), TinyWords()
    assert build_encoders(StudentEncodersConfig(), lambda: (images, words), CPU) == (images, words)
    mixed = StudentEncodersConfig(backbone="resnet50")
    own, text = build_encoders(mixed, lambda: (images, words), CPU)
    assert isinstance(own, ResNetPyramid) and text is words
