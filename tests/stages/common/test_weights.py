"""Checkpoints: found, checked, loaded strictly, refused with the way out."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import CheckpointError, ConfigError
from stages.common.checkpoints import checkpoint_files
from stages.common.weights import (
    check_digest,
    fill_model,
    read_weights,
    resolve_checkpoint,
    resolve_device,
    weights_digest,
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return dict(Small().state_dict())


def same(model: nn.Module, tensors: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


class Code:
    """A pickle of this writes a file when it is opened without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_safetensors_and_pytorch_files_of_every_layout_fill_a_model(tmp_path: Path) -> None:
    tensors = state()
    save_file(tensors, tmp_path / "a.safetensors")
    layouts = [
        tmp_path / "a.safetensors",
        saved(tmp_path / "b.pth", tensors),
        saved(tmp_path / "c.pth", {"model": tensors}),
        saved(tmp_path / "d.pth", {f"module.{name}": value for name, value in tensors.items()}),
        saved(
            tmp_path / "e.pth",
            {"model": {f"module.{name}": value for name, value in tensors.items()}},
        ),
    ]
    for path in layouts:
        model = Small()
        assert not same(model, tensors)
        fill_model(model, path)
        assert same(model, tensors), path


def test_half_precision_weights_fill_a_single_precision_model(tmp_path: Path) -> None:
    tensors = {name: value.half() for name, value in state().items()}
    save_file(tensors, tmp_path / "half.safetensors")
    model = Small()
    fill_model(model, tmp_path / "half.safetensors")
    assert model.first.weight.dtype == torch.float32
    assert torch.equal(model.first.weight.half(), tensors["first.weight"])


def test_names_to_ignore_may_be_there(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", state() | {"position_ids": torch.arange(4)})
    with pytest.raises(CheckpointError, match=r"1 of another model \(such as position_ids\)"):
        fill_model(Small(), path)
    fill_model(Small(), path, ignore=("position_ids",))


def test_a_missing_a_surplus_and_a_reshaped_parameter_are_each_named(tmp_path: Path) -> None:
    tensors = state()
    tensors["odd.weight"] = tensors.pop("first.weight")
    tensors["second.weight"] = torch.zeros(5, 5)
    path = saved(tmp_path / "a.pth", tensors)
    model = Small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        fill_model(model, path)
    message = str(caught.value)
    assert str(path) in message
    assert "1 missing (such as first.weight)" in message
    assert "1 of another model (such as odd.weight)" in message
    assert "1 of another shape (such as second.weight)" in message
    assert "Small" in message
    assert same(model, before), "a refused checkpoint changes nothing"


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    save_file(state(), path) if suffix == "safetensors" else torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(CheckpointError, match=f"weights.{suffix}.*does not load"):
        read_weights(path)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("content", [b"", b"<html>404: Not Found</html>"])
def test_a_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not load"):
        read_weights(path)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    new = saved(tmp_path / "new.pth", {"model": state(), "epoch": Code(marker)})
    old = tmp_path / "old.pth"
    old.write_bytes(pickle.dumps({"model": Code(marker)}, protocol=2))
    for path in (new, old):
        with pytest.raises(CheckpointError, match="does not load"):
            read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": {"epoch": 3}}, torch.zeros(3)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    path = saved(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError, match="not a mapping of tensors"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_pytorch_file_is_refused_wherever_the_damage_is(
    tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, 400, 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except CheckpointError as error:
            assert "weights.pth" in str(error)


def test_a_digest_is_that_of_the_file_and_is_checked(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", state())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights_digest(str(path)) == digest
    check_digest(str(path), digest)
    check_digest(str(path), digest.upper())
    check_digest(str(path), None)
    with pytest.raises(CheckpointError, match=rf"a\.pth.*sha256 {digest}.*sha256 {'0' * 64}"):
        check_digest(str(path), "0" * 64)


def test_a_folders_digest_covers_every_weights_file(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors"):
        save_file(state(), tmp_path / name)
    before = weights_digest(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert weights_digest(str(tmp_path)) == before
    save_file({"x": torch.zeros(1)}, tmp_path / "model-2.safetensors")
    assert weights_digest(str(tmp_path)) != before


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        weights_digest(str(tmp_path))


def test_a_missing_checkpoint_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: missing.*doctor"):
        resolve_checkpoint(str(tmp_path / "gone.pth"))
    with pytest.raises(CheckpointError, match=r"demo:grund.*ground, segment, track, captioner"):
        resolve_checkpoint("demo:grund")


def test_a_demo_model_that_was_never_trained_names_the_target_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.common.checkpoints.DEMO_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="make demo-models"):
        resolve_checkpoint("demo:ground")
    (tmp_path / "ground").mkdir()
    assert resolve_checkpoint("demo:ground") == tmp_path / "ground"


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sam.pth").touch()
    assert resolve_checkpoint("~/sam.pth") == tmp_path / "sam.pth"


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "gpu", "meta2"):
        with pytest.raises(ConfigError, match=f"device '{name}'.*doctor"):
            resolve_device(name)


def test_a_checkpoint_is_its_weights_and_what_lies_beside_them(tmp_path: Path) -> None:
    names = ("model.safetensors", "config.json", "chat_template.jinja", "vocab.txt", "figures.json")
    for name in (*names, "README.md"):
        (tmp_path / name).write_bytes(b"x")
    found = [path.name for path in checkpoint_files(str(tmp_path))]
    assert found == ["model.safetensors", "chat_template.jinja", "config.json", "vocab.txt"]
    assert checkpoint_files(str(tmp_path / "vocab.txt")) == [tmp_path / "vocab.txt"]
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        checkpoint_files(str(tmp_path))
