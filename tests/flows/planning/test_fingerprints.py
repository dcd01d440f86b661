from __future__ import annotations

from flows.planning.fingerprints import augment_basis
from pipeline.config import load_config


def test_the_frames_that_are_taken_are_part_of_the_fingerprint() -> None:
    bases = [
        augment_basis(load_config(None, ["dataset.name=videos", *words]), lambda name: name)
        for words in ([], ["dataset.frames_per_second=5"], ["dataset.max_size=640"])
    ]
    assert [basis["dataset"] for basis in bases] == [
        {"name": "videos", "split": "train"},
        {"name": "videos", "split": "train", "frames_per_second": 5.0},
        {"name": "videos", "split": "train", "max_size": 640},
    ]
