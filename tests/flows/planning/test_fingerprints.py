from __future__ import annotations

import json
from pathlib import Path

from flows.planning.fingerprints import augment_basis, texts_of_shard
from flows.planning.shards import Shard
from pipeline.config import load_config
from storage.datasets import open_dataset
from tests.storage.datasets import trees


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


def test_a_sentence_without_a_target_is_told_from_one_whose_target_nobody_names(
    tmp_path: Path,
) -> None:
    root, shard = trees.mevis_v2(tmp_path), Shard("00000", ("clip",))
    index = root / "train/meta_expressions_v2.json"
    said = texts_of_shard(open_dataset("mevis_v2", root, "train"), shard)["clip"]
    assert said[0] == ("0", "the red box moving right", ("11",)), "others are as they were"
    document = json.loads(index.read_text())
    del document["videos"]["clip"]["expressions"]["3"]["anno_id"]
    index.write_text(json.dumps(document))
    unsaid = texts_of_shard(open_dataset("mevis_v2", root, "train"), shard)["clip"]
    assert said[:3] == unsaid[:3]
    assert said[3] != unsaid[3]
