"""The data set of a request: links, rows that are replaced, and what is in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.exchange.own_videos import (
    DATA,
    RUN,
    TABLE,
    Request,
    check_outputs,
    check_request,
    write_request,
)
from flows.planning.run_config import write_run_config
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError
from storage.datasets import open_dataset
from tests.storage.datasets.test_video_clip import write_video


def _config(out: Path, *words: str) -> RunConfig:
    data = [f'dataset.root="{out / DATA}"', "dataset.name=videos", f'out="{out}"']
    return load_config(None, [*data, *words])


def _sentences(out: Path) -> dict[str, list[str]]:
    reader = open_dataset("videos", out / DATA, "train")
    return {
        video: [item.text for item in reader.expressions(video)] for video in reader.video_ids()
    }


def test_a_request_replaces_the_sentences_of_its_videos_alone(tmp_path: Path) -> None:
    dog, cat, out = tmp_path / "dog.mp4", tmp_path / "cat.MOV", tmp_path / "out"
    write_video(dog, frames=3)
    write_video(cat, frames=3, codec="mpeg4")
    config = _config(out)
    assert write_request(Request((dog, cat), ("a", 'b, "c"')), config) == ("dog", "cat")
    assert write_request(Request((dog,), ("d",)), config) == ("dog",)
    assert write_request(Request((dog,), ("e",), start=0.1), config) == ("dog@0.1-end",)
    assert _sentences(out) == {"dog": ["d"], "dog@0.1-end": ["e"], "cat": ["a", 'b, "c"']}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.MOV", "dog.mp4", "out"]
    assert (out / DATA / "dog.mp4").readlink() == dog


def test_videos_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "dog.mp4", frames=1)
    paths = tuple(tmp_path / folder / "dog.mp4" for folder in ("one", "two"))
    config = _config(tmp_path / "out")
    assert write_request(Request(paths, ("a",)), config) == ("dog", "dog-2")
    assert write_request(Request(paths[1:], ("b",)), config) == ("dog-2",)


def test_a_video_named_as_a_folder_of_the_results_gets_another_name(tmp_path: Path) -> None:
    frames = tmp_path / RUN
    frames.mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(frames / "0.png")
    assert write_request(Request((frames,), ("a",)), _config(tmp_path / "out")) == (f"{RUN}-2",)


def test_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    write_video(tmp_path / "dog.mp4", frames=1)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "0.png").write_bytes(b"a frame")
    config = _config(tmp_path)
    ids = write_request(Request((tmp_path / "dog.mp4",), ("a",)), config)
    with pytest.raises(ConfigError, match="no earlier export"):
        check_outputs(config, ids)
    other = tmp_path / "other"
    (other / DATA).mkdir(parents=True)
    (other / DATA / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.txt: not written by"):
        write_request(Request((tmp_path / "dog.mp4",), ("a",)), _config(other))


def test_other_frames_for_other_videos_need_another_folder(tmp_path: Path) -> None:
    dog, cat, out = tmp_path / "dog.mp4", tmp_path / "cat.mp4", tmp_path / "out"
    write_video(dog, frames=1)
    write_video(cat, frames=1)
    config = _config(out)
    write_request(Request((dog,), ("a",)), config)
    write_run_config(out / RUN / "config.toml", config)
    changed = _config(out, "dataset.max_size=32")
    write_request(Request((dog,), ("a",)), changed)
    with pytest.raises(ConfigError, match=r"dog\.mp4 was labelled .*full size, now max_size 32"):
        write_request(Request((cat,), ("a",)), changed)
    assert _sentences(out) == {"dog": ["a"]}


def test_a_video_of_8k_passes_the_checks(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", frames=1, codec="mpeg4", size=(4320, 7680))
    check_request(Request((path,), ("a dog",)), None)
    write_request(Request((path,), ("a dog",)), _config(tmp_path / "out"))
    reader = open_dataset("videos", tmp_path / "out" / DATA, "train", sampling={"max_size": 640})
    video = reader.video("a")
    assert (video.height, video.width) == (360, 640)
    assert (tmp_path / "out" / DATA / TABLE).is_file()
