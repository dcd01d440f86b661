"""``pseudolabels label``, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import flows.labelling.opened_run
from pipeline.metrics import region_similarity
from pipeline.shapes.render import render
from pipeline.shapes.scene import Scene, sample_scene
from storage.run.ledger import Ledger
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import Loaded, fake_parts
from tests.flows.commands.test_main import call
from tests.storage.datasets.test_video_clip import write_video

FRAMES = 5


def _scene() -> tuple[Scene, int]:
    """A scene with one red circle, and the circle's number."""
    for seed in range(100):
        scene = sample_scene(np.random.default_rng(seed))
        red = [n for n, o in enumerate(scene.objects) if (o.colour, o.shape) == ("red", "circle")]
        if len(red) == 1 and len(scene.objects) > 1 and render(scene, 0).masks[red[0]].sum() > 400:
            return scene, red[0]
    raise AssertionError("no such scene")


def _write(path: Path, scene: Scene) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=12, options={"crf": "16", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 144, 256, "yuv420p"
        for time in range(FRAMES):
            image = np.ascontiguousarray(render(scene, time).image)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_a_rendered_clip_ends_in_an_overlay_with_good_masks(
    tmp_path: Path,
    prefect_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    scene, red = _scene()
    (tmp_path / "my videos").mkdir()
    clip = _write(tmp_path / "my videos" / "clip [1].mp4", scene)
    code, shown = call(monkeypatch, capsys, "label", str(clip), "--text", "the red circle")
    assert code == 0, shown
    assert [path.name for path in clip.parent.iterdir()] == [clip.name]
    folder = tmp_path / "labels" / "clip [1]"
    files = sorted((folder / "masks" / "0").iterdir())
    scores = [
        region_similarity(np.asarray(Image.open(path)) > 0, render(scene, time).masks[red])
        for time, path in enumerate(files)
    ]
    assert len(scores) == FRAMES
    assert np.mean(scores) >= 0.8
    with av.open(str(folder / "overlay.mp4")) as file:
        assert len(list(file.decode(video=0))) == FRAMES
    warning = "know rendered shapes alone"
    page = tmp_path / "labels" / "videos-train" / "report" / "index.html"
    assert warning in page.read_text()
    assert shown.count(warning) == 2
    assert shown.index(f"{FRAMES} of {FRAMES} frames have a mask") < shown.index("Overlay: ")


@pytest.fixture
def fakes(tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Stand-ins for the models, and two folders of frames and a song in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"weights")
    parts = fake_parts(tmp_path / "weights.bin", loaded := Loaded())
    monkeypatch.setattr(flows.labelling.opened_run, "Parts", lambda: parts)
    write_dataset(tmp_path / "data", 2)
    for name in ("clip00", "clip01"):
        (tmp_path / "data" / "train" / "JPEGImages" / name).rename(tmp_path / name)
    return loaded


@pytest.mark.slow
def test_another_text_labels_its_video_again_and_no_other(
    fakes: Loaded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    first = ("label", "clip00", "clip01", "empty.mp4", "--text", "the red square")
    code, shown = call(monkeypatch, capsys, *first)
    assert code == 0, shown
    assert "2 videos, 2 expressions: 10 of 10 frames have a mask" in shown
    assert "Skipped empty: " in shown
    ledger = Ledger(tmp_path / "labels" / "videos-train")
    before = {receipt.shard: receipt.fingerprint for receipt in ledger.receipts("ground")}
    code, shown = call(monkeypatch, capsys, "label", "clip01", "--text", "the green square")
    assert code == 1, shown
    assert "1 video, 1 expression: 0 of 5 frames have a mask" in shown
    assert "clip01: 0 of 5 frames have a mask for 'the green square': " in shown
    after = {receipt.shard: receipt.fingerprint for receipt in ledger.receipts("ground")}
    assert [shard for shard in after if before[shard] != after[shard]] == ["00001"]
    for name in ("clip00", "clip01"):
        marker = tmp_path / "labels" / name / "export.json"
        assert json.loads(marker.read_text())["kind"] == "video"


WRONG: dict[str, tuple[list[str], int, str]] = {
    "a wrong path": (["nope.mp4"], 1, "nope.mp4: no such file; expected a video file"),
    "an empty text": (["a.mp4", "--text", " "], 2, "--text: the sentence is empty; expected"),
    "no text": (["a.mp4"], 2, "no --text; expected a video and a sentence"),
    "500 words": (["a.mp4", "--text", "very " * 499 + "big"], 2, "the sentence has 500 words"),
    "audio alone": (["song.mp4"], 1, "song.mp4: no video stream (audio alone); expected"),
    "0 bytes": (["empty.mp4"], 1, "empty.mp4: 0 bytes; expected a video file"),
    "no frames": (["folder"], 1, "folder: no frames in this folder; expected a video file"),
    "a folder of videos": (["."], 1, ".: a folder of 3 videos; expected a video file"),
    "no video": (["note.txt"], 1, "note.txt: a file with the suffix '.txt'; expected one of"),
    "too late": (["a.mp4", "--start", "9"], 1, "no frame from 9 to the end"),
    "no time": (["a.mp4", "--start", "2", "--end", "1"], 2, "an end after the start"),
    "no number": (["a.mp4", "--end", "inf"], 2, "--end inf; expected numbers"),
    "no such times": (["folder", "--frames-per-second", "2"], 2, "frames in a folder have no"),
    "an out that is a file": (["a.mp4", "--out", "note.txt"], 2, "note.txt: a file; expected"),
    "an unwritable out": (["a.mp4", "--out", "/proc/none"], 2, "/proc/none: cannot be made"),
    "a missing weight": (["a.mp4", "segment.checkpoint=no.pth"], 1, "no.pth: missing; expected"),
    "a wrong digest": (["a.mp4", "segment.sha256=00"], 1, "expected sha256 00; fetch"),
    "a wrong setting": (["a.mp4", "rank.treshold=1"], 2, "did you mean rank.threshold?"),
    "a wrong size": (["a.mp4", "--max-size", "3"], 2, "dataset.max_size: Input should be"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_mistake_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words, code, part = WRONG[kind]
    write_video(tmp_path / "a.mp4", frames=1)
    with av.open(str(tmp_path / "song.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "note.txt").write_text("a note")
    (tmp_path / "folder").mkdir()
    text = [] if "text" in kind or "words" in kind else ["--text", "a dog"]
    found, shown = call(monkeypatch, capsys, "label", *words, *text)
    assert (found, part in shown) == (code, True), shown
    assert shown.count("error:") == 1
    assert "Traceback" not in shown
