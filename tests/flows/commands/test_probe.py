"""`doctor --probe` runs the models on a picture and says what is off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from flows.commands.doctor import Finding
from flows.commands.probe import Picture, pictures_for, probe
from flows.context import Parts
from pipeline.config import load_config
from pipeline.errors import InputError
from pipeline.ports import CaptionAnswer, CaptionRequest
from pipeline.types import Augmentation, Boxes, Candidates, Positive, Provenance
from tests.fakes.trackers import ColourTracker
from tests.flows.commands.conftest import Cli

BOX = np.array([20, 10, 44, 34], np.float32)
IMAGE = np.full((40, 64, 3), 120, np.uint8)
IMAGE[10:34, 20:44] = (220, 30, 30)
PICTURE = Picture("a square", IMAGE, "the red square", BOX)


class Grounder:
    def __init__(self, present: float, absent: float) -> None:
        self._scores = present, absent

    def embed(self, images: Sequence[Any]) -> object:
        return images

    def ground(self, embedding: object, texts: Sequence[str]) -> list[Boxes]:
        row = np.arange(2, dtype=np.int32)
        return [Boxes(np.stack([BOX, BOX]), np.array(self._scores, np.float32), row, 0 * row)]


class Segmenter:
    def __init__(self, value: float, quality: float = 0.9) -> None:
        self._value, self._quality = value, quality

    def embed(self, images: Sequence[Any]) -> object:
        return images

    def decode(self, embedding: object, boxes: Sequence[Any]) -> list[Candidates]:
        logits = np.full((1, 20, 32), -4, np.float16)
        logits[0, 6:16, 11:21] = self._value
        one = np.ones(1, np.float32)
        return [Candidates(logits, self._quality * one, one, np.zeros(1, np.int32))]


class Captioner:
    asked: ClassVar[list[CaptionRequest]] = []

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        [request] = requests
        self.asked.append(request)
        positives = (Positive(request.expression.text, 1.0), Positive("a square", 0.5))
        made = Augmentation(request.expression.key, positives, (), Provenance("m", "", "", 0))
        return [CaptionAnswer(made, {"no such kind": 3}, (700, 40))]


def found(
    *settings: str, grounder: Any = None, segmenter: Any = None, picture: Picture = PICTURE
) -> dict[str, Finding]:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("out of memory")

    parts = Parts(
        captioner=lambda config, device, content: Captioner(),
        grounder=lambda config, device: grounder or Grounder(0.8, 0.1),
        segmenter=lambda config, device: segmenter or Segmenter(4),
        tracker=lambda config, device: ColourTracker() if segmenter is None else broken(),
        device=lambda name: None,
    )
    config = load_config(None, ["fuse.absent_below=0.25", "fuse.uncertain_below=0.3", *settings])
    return {
        f"{item.group.split()[2].rstrip(',')} {item.name}": item
        for item in probe(config, [picture], parts)
    }


def test_models_that_work_are_said_to() -> None:
    seen = found("track.source=model", 'track.checkpoint="x"')
    assert all(item.well for item in seen.values()) and len(seen) == 5
    assert "score 0.80 for 'the red square'" in seen["ground a square"].words
    assert "IoU 1.00 with the true box" in seen["ground its box"].words
    assert "fills 69% of the box" in seen["segment a square"].words
    assert "after 8 pixels" in seen["track a square"].words


@pytest.mark.parametrize(
    ("present", "absent", "name", "words"),
    [
        (0.02, 0.01, "a square", "knows none of its words; check ground.text_encoder"),
        (0.27, 0.1, "a square", r"below fuse.uncertain_below (0.3)"),
        (0.8, 0.6, "an absent object", "raise the thresholds of fuse"),
    ],
)
def test_scores_that_are_off_are_explained(
    present: float, absent: float, name: str, words: str
) -> None:
    item = found(grounder=Grounder(present, absent))[f"ground {name}"]
    assert not item.well and words in item.words


@pytest.mark.slow
def test_a_mask_that_is_off_is_explained() -> None:
    item = found(segmenter=Segmenter(np.nan))["segment a square"]
    assert not item.well and "set segment.dtype to float32" in item.words
    item = found(segmenter=Segmenter(-4))["segment a square"]
    assert not item.well and "check segment.model" in item.words
    item = found(segmenter=Segmenter(4, quality=0.2))["segment a square"]
    assert not item.well


def test_an_answer_without_negatives_is_off_and_a_broken_model_stops_no_other() -> None:
    seen = found(
        "augment.source=model",
        "track.source=model",
        'track.checkpoint="x"',
        segmenter=Segmenter(4),
    )
    words = seen["augment a square"].words
    assert not seen["augment a square"].well
    assert "1 positives and 0 negatives; left out: 3 no such kind" in words
    assert "such as 'a square'" in words
    assert "700 tokens read, 40 written" in words and "on cpu in float32" in words
    assert not seen["track a square"].well and "out of memory" in seen["track a square"].words
    assert seen["segment a square"].well


def test_a_captioner_is_probed_with_what_a_run_shows_it() -> None:
    found("augment.source=model", "augment.input=video", "augment.max_pixels=900")
    request = Captioner.asked[-1]
    assert request.times == (0.0,) and request.images[0].shape[:2] == (28, 37)
    found("augment.source=model")
    assert Captioner.asked[-1].times == () and Captioner.asked[-1].images[0].shape[:2] == (40, 64)


def test_pictures_of_the_user_and_of_an_installed_package(tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    Image.fromarray(IMAGE).save(path)
    published = ['ground.checkpoint="x.pth"', 'segment.checkpoint="y.pth"']
    config = load_config(None, ["ground.backbone=swin_T_224_1k", *published])
    [mine] = pictures_for(config, [path], "the red square")
    assert mine.box is None and mine.text == "the red square"
    assert all(item.well for item in found(picture=mine).values())
    [photograph] = pictures_for(config, [], None)
    assert photograph.image.shape[2] == 3 and "grace_hopper.jpg" in photograph.name
    with pytest.raises(InputError, match=r"nothing\.png"):
        pictures_for(config, [tmp_path / "nothing.png"], None)


def test_the_command(cli: Cli) -> None:
    code, shown = cli("doctor", "--probe")
    assert "score 0.80 for 'the red circle'" in shown and "with the true box" in shown
    assert code == 0
    code, shown = cli("doctor", "--image", "a.png")
    assert code == 2 and "expected --probe" in shown
    code, shown = cli("doctor", "--probe", "--image", "a.png")
    assert code == 1 and "a.png" in shown and "Traceback" not in shown
