"""Soft tracks: who is who in another frame, and how fast it moves."""

from __future__ import annotations

import pytest
import torch

from stages.student.grounded.motion import SoftTracks, along_tracks, velocities

FRAMES = 6


def scene(speed: float = 0.03) -> tuple[torch.Tensor, torch.Tensor]:
    """Three instances: one moves right, a look-alike of it moves left, another one stands still.
    Their order changes from frame to frame."""
    kinds = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    time = torch.arange(FRAMES)[:, None]
    x = torch.tensor([[0.1, 0.9, 0.5]]) + speed * time * torch.tensor([[1.0, -1.0, 0.0]])
    y = torch.tensor([0.2, 0.8, 0.5]).expand_as(x)
    boxes = torch.stack([x, y, torch.full_like(x, 0.1), torch.full_like(x, 0.1)], -1)
    features = kinds.expand(FRAMES, -1, -1)
    for frame in range(FRAMES):
        order = torch.tensor([0, 1, 2]).roll(frame)
        boxes[frame], features = boxes[frame][order], features.clone()
        features[frame] = features[frame][order]
    return features, boxes


def where(frame: int) -> list[int]:
    """Rows of the three instances in a frame."""
    return torch.tensor([0, 1, 2]).roll(frame).argsort().tolist()


def test_instances_are_matched_across_frames_in_any_order() -> None:
    features, boxes = scene()
    matches = SoftTracks()(features, boxes)
    assert matches.shape == (FRAMES, FRAMES, 3, 3)
    torch.testing.assert_close(matches.sum(-1), torch.ones(FRAMES, FRAMES, 3))
    for one in range(FRAMES):
        for other in range(FRAMES):
            for mine, theirs in zip(where(one), where(other), strict=True):
                assert int(matches[one, other, mine].argmax()) == theirs
        assert torch.equal(matches[one, one], torch.eye(3))


def test_velocities_are_the_displacement_per_frame() -> None:
    features, boxes = scene(0.03)
    found = velocities(SoftTracks()(features, boxes), boxes[..., :2]).detach()
    for frame in range(FRAMES):
        right, left, still = found[frame][where(frame)]
        assert right[0] == pytest.approx(0.03, abs=0.01)
        assert left[0] == pytest.approx(-0.03, abs=0.01)
        assert still.abs().max() < 0.01 and found[frame, :, 1].abs().max() < 0.01


def test_one_frame_shows_no_movement() -> None:
    features, boxes = scene()
    matches = SoftTracks()(features[:1], boxes[:1])
    assert torch.equal(velocities(matches, boxes[:1, :, :2]), torch.zeros(1, 3, 2))
    assert torch.equal(along_tracks(matches, boxes[None, :1, :, 0]), boxes[None, :1, :, 0])


def test_a_value_is_averaged_along_a_track() -> None:
    features, boxes = scene()
    matches = SoftTracks()(features, boxes)
    values = torch.zeros(1, FRAMES, 3)
    values[0, 2, where(2)[0]] = 6.0  # one frame says it of the first instance
    mean = along_tracks(matches, values)
    for frame in range(FRAMES):
        first, second, third = mean[0, frame][where(frame)].tolist()
        assert first > 0.7 and second < 0.3 and third < 0.1


def test_the_weights_learn() -> None:
    features, boxes = scene()
    tracks = SoftTracks()
    velocities(tracks(features, boxes), boxes[..., :2]).square().sum().backward()
    assert tracks.weights.grad is not None and tracks.weights.grad.abs().min() > 0
