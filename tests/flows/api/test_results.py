"""Results of a run as objects."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

import pseudolabels
from pipeline.errors import ConfigError, InputError
from tests.fakes.dataset import FRAMES, HEIGHT, WIDTH


def test_arrays_of_an_expression(run_folder: Path) -> None:
    run = pseudolabels.load_run(str(run_folder))
    item = run[1]
    assert (item.video, item.expression, item.text) == (
        "clip00",
        "1",
        "the blue square moving left",
    )
    assert item.masks.shape == (FRAMES, HEIGHT, WIDTH)
    assert item.masks.dtype == np.bool_
    assert item.status.tolist() == [2, 1, 1, 1, 0]
    assert item.weight.tolist() == [0.5, 0.5, 0.5, 0.5, 0]
    assert item.boxes.tolist() == [[0] * 4, *[[3, 2, 7, 5]] * 3, [0] * 4]
    assert item.counts == {"present": 3, "absent": 1, "unknown": 1}


def test_a_run_is_a_sequence(run_folder: Path) -> None:
    run = pseudolabels.load_run(run_folder)
    assert len(run) == 4
    assert run.videos == ("clip00", "clip01")
    assert [item.expression for item in run] == ["0", "1", "0", "1"]
    assert [item.video for item in run[-2:]] == ["clip01", "clip01"]
    assert run["clip01", "0"].text == "the red square"
    assert run.metrics is None
    with pytest.raises(KeyError, match="no expression 7 of video clip01"):
        run["clip01", "7"]
    with pytest.raises(IndexError):
        run[4]


def test_pictures(run_folder: Path) -> None:
    item = pseudolabels.load_run(run_folder)[0]
    assert item.frame(-1).shape == (HEIGHT, WIDTH, 3)
    plain, marked = item.overlay(0), item.overlay(1)
    assert np.array_equal(plain, item.frame(0)), "the target is absent there"
    assert not np.array_equal(marked, item.frame(1))
    assert item.preview(3).width == 3 * 240


def test_shown_in_a_notebook(run_folder: Path) -> None:
    run = pseudolabels.load_run(run_folder)
    html = run._repr_html_()
    assert "the red square" in html
    assert "3 present, 1 absent, 1 unknown" in html
    assert html.count("<img") == 4 * FRAMES
    item = run[0]
    item.text = "a <b> & c"
    assert "a &lt;b&gt; &amp; c" in item._repr_html_()
    assert repr(run[0]) == "<clip00 0 'the red square': 3 present, 1 absent, 1 unknown>"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config.toml; expected the folder of a run"):
        pseudolabels.load_run(tmp_path)


def test_the_interface_is_what_is_listed() -> None:
    for name in pseudolabels.__all__:
        assert getattr(pseudolabels, name).__doc__, name
    assert set(pseudolabels.__all__) <= set(dir(pseudolabels))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pseudolabels.nothing  # noqa: B018


def test_an_overlay_is_saved_over_an_earlier_one(run_folder: Path, tmp_path: Path) -> None:
    item = pseudolabels.load_run(run_folder)[0]
    path = tmp_path / "new" / "overlay.mp4"
    for _ in range(2):
        item.save(path)
    with av.open(str(path)) as file:
        assert len(list(file.decode(video=0))) == FRAMES
    assert [child.name for child in path.parent.iterdir()] == ["overlay.mp4"]
    with pytest.raises(ValueError, match=r"expected a path that ends in \.mp4"):
        item.save(tmp_path / "overlay.gif")


def test_only_the_videos_that_were_asked_for(run_folder: Path) -> None:
    whole = pseudolabels.load_run(run_folder)
    part = pseudolabels.LabelledRun(whole.config, videos=["clip01"])
    assert part.videos == ("clip01",)
    assert [item.expression for item in part] == ["0", "1"]


def test_label_checks_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of them"):
        pseudolabels.label("a.mp4", "the dog", preset="small", config="c.toml", out=tmp_path)
    with pytest.raises(InputError, match=r"nothing\.mp4: no such file"):
        pseudolabels.label(tmp_path / "nothing.mp4", "the dog", out=tmp_path / "labels")
    assert list(tmp_path.iterdir()) == []
