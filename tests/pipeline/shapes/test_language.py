"""Sentences about scenes, read literally against the objects' paths, not by the module's rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.random import Generator

from pipeline.shapes.language import (
    KINDS,
    Said,
    hard_negatives,
    referring_expressions,
    sentences,
    view,
    vocabulary,
)
from pipeline.shapes.scene import (
    COLOURS,
    HEIGHT,
    SHAPES,
    SIZES,
    WIDTH,
    Scene,
    sample_hard_scene,
    sample_scene,
)

PLACES = {
    "on the left": "left",
    "on the left side": "left",
    "that is leftmost": "left",
    "on the right": "right",
    "on the right side": "right",
    "that is rightmost": "right",
    "at the top": "up",
    "in the upper part": "up",
    "that is topmost": "up",
    "at the bottom": "down",
    "in the lower part": "down",
    "that is lowest": "down",
}
RELATIONS = {
    "to the left of": "left",
    "left of": "left",
    "to the right of": "right",
    "right of": "right",
    "above": "up",
    "higher than": "up",
    "below": "down",
    "lower than": "down",
}
MOVEMENTS = {
    "moving up": "up",
    "that moves upward": "up",
    "going up": "up",
    "moving down": "down",
    "that moves downward": "down",
    "going down": "down",
    "moving left": "left",
    "that moves to the left": "left",
    "going left": "left",
    "moving right": "right",
    "that moves to the right": "right",
    "going right": "right",
    "standing still": "still",
    "that does not move": "still",
    "staying in place": "still",
    "spinning": "spin",
    "that turns around itself": "spin",
    "rotating": "spin",
}
DIRECTION = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@dataclass(frozen=True)
class Video:
    scene: Scene
    said: list[Said]
    rng: Generator


def drawn(sample: Callable[[Generator], Scene], count: int) -> list[Video]:
    made = []
    for number in range(count):
        rng = np.random.default_rng((23, number))
        scene = sample(rng)
        made.append(Video(scene, referring_expressions(scene, rng), rng))
    return made


@pytest.fixture(scope="module")
def videos() -> list[Video]:
    return drawn(sample_scene, 300)


@pytest.fixture(scope="module")
def hard() -> list[Video]:
    return drawn(sample_hard_scene, 40)


@pytest.fixture(scope="module")
def every(videos: list[Video], hard: list[Video]) -> list[Video]:
    return [*videos, *hard]


def phrase(text: str, tails: dict[str, str]) -> str | None:
    """The longest of the tails that the sentence holds."""
    held = [tail for tail in tails if re.search(rf"\b{tail}\b", text)]
    return max(held, key=len, default=None)


def named(scene: Scene, text: str) -> set[int]:
    """Objects that no word of size, colour or shape in the text excludes."""
    words = set(re.findall("[a-z]+", text))
    fits = set()
    for index, item in enumerate(scene.objects):
        own = {"size": item.size, "colour": item.colour, "shape": item.shape}
        groups = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
        if all(words & set(groups[key]) <= {own[key]} for key in own):
            fits.add(index)
    return fits


def point(scene: Scene, index: int, time: int) -> np.ndarray | None:
    """An object's centre; None where it is outside of the frame or behind a pillar."""
    x, y = scene.centre(index, time)
    hidden = any(pillar.hides(x) for pillar in scene.shot(time).pillars)
    return np.array([x, y]) if 0 < x < WIDTH and 0 < y < HEIGHT and not hidden else None


def share_beyond(
    scene: Scene, index: int, others: set[int], side: str, margin: float
) -> float | None:
    """Of the frames that show the object and one of the others, the share in which it lies to
    that side of all of them that are shown, by more than a margin in pixels."""
    held = []
    for time in range(scene.frames):
        own = point(scene, index, time)
        rest = [point(scene, other, time) for other in others - {index}]
        shown = [item for item in rest if item is not None]
        if own is not None and shown:
            held.append(all((own - item) @ DIRECTION[side] > margin for item in shown))
    return sum(held) / len(held) if held else None


def moves(scene: Scene, index: int, movement: str) -> bool:
    """Whether the object's path goes that way, by its steps inside the frame."""
    item = scene.objects[index]
    if movement == "spin":
        return item.spin != 0
    steps = [
        np.subtract(item.centre(time + 1), item.centre(time)) for time in range(scene.frames - 1)
    ]
    step = np.median(steps, axis=0)
    if movement == "still":
        return bool(np.abs(step).max() < 1e-9)
    return bool(step @ DIRECTION[movement] > 1)


def test_appearance_alone_picks_the_target(every: list[Video]) -> None:
    for video in every:
        for item in video.said:
            if item.kind == "appearance":
                assert named(video.scene, item.text) == {item.target}, item.text


def test_look_alikes_are_never_told_apart_by_their_name_alone(hard: list[Video]) -> None:
    kinds = Counter(item.kind for video in hard for item in video.said if item.target in (0, 1))
    assert kinds["motion"] > 40 and kinds["appearance"] == 0


def test_places_are_true_of_the_target_and_of_no_other(every: list[Video]) -> None:
    checked = 0
    for video in every:
        scene = video.scene
        for item in (said for said in video.said if said.kind == "place"):
            tail = phrase(item.text, PLACES)
            assert tail is not None, item.text
            fits = named(scene, item.text.replace(tail, ""))
            assert item.target in fits
            against = fits if len(fits) > 1 else set(range(len(scene.objects)))
            own = share_beyond(scene, item.target, against, PLACES[tail], 0)
            assert own is not None and own > 0.6, item.text
            for rival in fits - {item.target}:
                assert (share_beyond(scene, rival, against, PLACES[tail], 0) or 0) < own
            checked += 1
    assert checked > 100


def test_motions_are_true_of_the_target_and_of_no_other(every: list[Video]) -> None:
    checked = Counter[str]()
    for video in every:
        for item in (said for said in video.said if said.kind == "motion"):
            tail = phrase(item.text, MOVEMENTS)
            assert tail is not None, item.text
            fits = named(video.scene, item.text.replace(tail, ""))
            movement = MOVEMENTS[tail]
            assert {i for i in fits if moves(video.scene, i, movement)} == {item.target}, item.text
            checked[movement] += 1
    assert set(checked) == set(MOVEMENTS.values())


def test_relations_are_true_of_the_target_and_clearly_of_no_other(every: list[Video]) -> None:
    checked = 0
    for video in every:
        scene = video.scene
        for item in (said for said in video.said if said.kind == "relation"):
            tail = phrase(item.text, RELATIONS)
            assert tail is not None, item.text
            subject, anchor = item.text.split(f" {tail} the ")
            [known] = named(scene, anchor)
            fits = named(scene, subject) - {known}
            assert item.target in fits
            own = share_beyond(scene, item.target, {known}, RELATIONS[tail], 0)
            assert own is not None and own > 0.6, item.text
            for rival in fits - {item.target}:
                other = share_beyond(scene, rival, {known}, RELATIONS[tail], 6)
                assert (other or 0) < 0.5, item.text
            checked += 1
    assert checked > 100


def test_negatives_are_not_true_of_the_target(videos: list[Video]) -> None:
    kinds = Counter[str]()
    for video in videos:
        scene, seen = video.scene, view(video.scene)
        everyone = set(range(len(scene.objects)))
        for target in range(len(scene.objects)):
            for negative in hard_negatives(seen, target, 12, video.rng):
                kinds[str(negative.kind)] += 1
                place, movement = phrase(negative.text, PLACES), phrase(negative.text, MOVEMENTS)
                name = negative.text.replace(place or movement or "", "")
                wrong_name = target not in named(scene, name)
                if movement is not None:
                    assert not moves(scene, target, MOVEMENTS[movement]), negative.text
                elif place is not None:
                    there = share_beyond(scene, target, everyone, PLACES[place], 6)
                    assert there is None or there < 0.4, negative.text
                else:
                    assert wrong_name, negative.text
    assert set(kinds) == {"category", "attribute", "action", "relation"}
    assert min(kinds.values()) > 100


def test_negatives_name_the_other_objects_first_and_are_distinct(videos: list[Video]) -> None:
    for video in videos[:60]:
        seen = view(video.scene)
        for target, item in enumerate(video.scene.objects):
            texts = [negative.text for negative in hard_negatives(seen, target, 9, video.rng)]
            others = {f"the {other.name}" for other in video.scene.objects} - {f"the {item.name}"}
            assert set(texts[: len(others)]) == others
            assert len(set(texts)) == len(texts) <= 9
            assert hard_negatives(seen, target, 2, video.rng)[2:] == []


def test_one_frame_shows_no_motion(videos: list[Video]) -> None:
    for video in videos[:60]:
        seen = view(video.scene, [0])
        for target in range(len(video.scene.objects)):
            if seen.seen(target):
                assert sentences(seen, target, video.rng)["motion"] == []
                kinds = {item.kind for item in hard_negatives(seen, target, 20, video.rng)}
                assert "action" not in kinds


def test_two_expressions_an_object_of_different_kinds(videos: list[Video]) -> None:
    objects = sum(len(video.scene.objects) for video in videos)
    said = [item for video in videos for item in video.said]
    assert 1.9 < len(said) / objects <= 2
    assert {item.kind for item in said} == set(KINDS)
    for video in videos:
        for target in range(len(video.scene.objects)):
            kinds = [item.kind for item in video.said if item.target == target]
            assert len(set(kinds)) == len(kinds)


def test_sentences_are_as_long_as_annotators_and_well_formed(videos: list[Video]) -> None:
    words = []
    for video in videos:
        for item in video.said:
            words.append(len(item.text.split()))
            assert item.text == item.text.strip().lower()
            assert not re.search(r"\ba orange\b|\ban (?!orange)", item.text), item.text
            assert re.match(r"(a|an|the) ", item.text)
    assert min(words) >= 2 and max(words) <= 25
    assert 5 < np.mean(words) < 11


def test_the_vocabulary_is_every_word_that_is_ever_written(videos: list[Video]) -> None:
    written: set[str] = set()
    for video in videos:
        seen = view(video.scene)
        for item in video.said:
            written.update(item.text.split())
        for target in range(len(video.scene.objects)):
            for said in sentences(seen, target, video.rng).values():
                written.update(word for item in said for word in item.text.split())
            negatives = hard_negatives(seen, target, 20, video.rng)
            written.update(word for item in negatives for word in item.text.split())
    assert vocabulary() == sorted(written)


def test_the_same_generator_says_the_same(videos: list[Video]) -> None:
    scene = videos[0].scene
    one, two = (referring_expressions(scene, np.random.default_rng(8)) for _ in range(2))
    assert one == two and one != referring_expressions(scene, np.random.default_rng(9))
