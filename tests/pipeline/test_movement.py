"""Movements that sentences name, in the words of MeViS, Ref-YouTube-VOS and A2D-Sentences."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.movement import Movement, movement_named
from pipeline.shapes.language import MOVEMENTS, referring_expressions
from pipeline.shapes.scene import sample_hard_scene


@pytest.mark.parametrize(
    ("text", "movement"),
    [
        ("The bird that is flying to the left", Movement.LEFT),
        ("a cat walking slowly towards the right side", Movement.RIGHT),
        ("the car moves from right to left", Movement.LEFT),
        ("the truck driving from the left to the right", Movement.RIGHT),
        ("the fish swimming left", Movement.LEFT),
        ("A ball is rolling rightwards", Movement.RIGHT),
        ("monkey climbing up the tree", Movement.UP),
        ("the leaf falling down", Movement.DOWN),
        ("a panda moving downwards", Movement.DOWN),
        ("the balloon going from the bottom to the top", Movement.UP),
        ("the dog standing still", Movement.STILL),
        ("the cow that isn't moving", Movement.STILL),
        ("the sheep not moving", Movement.STILL),
        ("the elephant that stays in the same place", Movement.STILL),
        ("a parked car", Movement.STILL),
    ],
)
def test_a_movement_is_found(text: str, movement: Movement) -> None:
    assert movement_named(text) == movement


@pytest.mark.parametrize(
    "text",
    [
        "the man on the left",
        "a woman walking on the left side of the road",
        "a person riding a bike down the road",
        "the girl walking up the stairs",
        "the left hand",
        "a dog running to the left of the bench",
        "the giraffe that turns left",
        "the rabbit moving left and then moving right",
        "the horse moving away",
        "a parrot on the right is still eating",
        "",
        "kedi sola yürüyor",
    ],
)
def test_no_movement_is_found(text: str) -> None:
    assert movement_named(text) is None


def test_what_shapes_say_is_understood() -> None:
    named = {
        key: {movement_named(f"the red circle {tail} in the scene") for tail in tails}
        for key, tails in MOVEMENTS.items()
    }
    expected = {key: {Movement[key.upper()]} for key in MOVEMENTS if key != "spin"}
    assert named == {**expected, "spin": {None}}


def test_a_movement_of_a_scene_is_the_targets() -> None:
    checked = 0
    for number in range(40):
        scene = sample_hard_scene(np.random.default_rng((9, number)))
        for said in referring_expressions(scene, np.random.default_rng(number)):
            movement = movement_named(said.text)
            if movement is not None:
                assert movement.name.lower() == scene.objects[said.target].motion
                checked += 1
            else:
                assert said.kind != "motion" or scene.objects[said.target].spinning
    assert checked > 80
