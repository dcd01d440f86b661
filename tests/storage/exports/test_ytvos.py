from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import StoreError
from pipeline.types import FrameIndex, Status
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.exports import exporter
from storage.exports.source import ExportSource
from storage.exports.ytvos import CATEGORY
from tests.storage.datasets import trees
from tests.storage.exports.conftest import P, U, make_source, pseudo_mask, truth


def load_as_trainers_do(root: Path) -> dict[tuple[str, str], tuple[list[str], np.ndarray]]:
    """(video, expression) -> frames and masks, the way loaders of Ref-YouTube-VOS go about it."""
    index = json.loads((root / "meta_expressions/train/meta_expressions.json").read_text())
    objects = json.loads((root / "train/meta.json").read_text())["videos"]
    found = {}
    for video, about in index["videos"].items():
        frames = sorted(about["frames"])
        for name, expression in about["expressions"].items():
            assert expression["exp"]
            number = int(expression["obj_id"])
            assert objects[video]["objects"][expression["obj_id"]]["category"] == CATEGORY
            masks = []
            for frame in frames:
                image = Image.open(root / "train/JPEGImages" / video / f"{frame}.jpg").convert(
                    "RGB"
                )
                palette = Image.open(root / "train/Annotations" / video / f"{frame}.png")
                mask = palette.convert("P")
                assert palette.mode == "P"
                assert mask.size == image.size
                masks.append(np.array(mask) == number)
            found[video, name] = (frames, np.stack(masks))
    return found


def stored(source: ExportSource, expression: str) -> tuple[list[str], np.ndarray]:
    """The known frames of a sample and their masks."""
    mask, _, status = source.store.read("clip", expression)
    known = np.flatnonzero(status != Status.UNKNOWN)
    return [trees.FRAMES[frame] for frame in known], mask[known]


def test_a_trainers_loader_reads_equal_masks_and_no_unknown_frame(
    source: ExportSource, tmp_path: Path
) -> None:
    report = exporter("ytvos")(source, tmp_path / "out")
    assert report.counts == {"folders": 2, "samples": 2, "videos": 1}
    found = load_as_trainers_do(tmp_path / "out")
    assert set(found) == {("clip", "0"), ("clip__e1", "1")}
    for (_, expression), (frames, masks) in found.items():
        expected_frames, expected = stored(source, expression)
        assert frames == expected_frames
        assert np.array_equal(masks, expected)


def test_the_projects_reader_reads_it_back(source: ExportSource, tmp_path: Path) -> None:
    exporter("ytvos")(source, tmp_path / "out")
    reader = open_dataset("refytvos", tmp_path / "out", "train")
    for video_id in reader.video_ids():
        video = reader.video(video_id)
        for expression in reader.expressions(video_id):
            _, expected = stored(source, expression.key.expression)
            got = [reader.truth(video, expression, FrameIndex(t)) for t in range(len(video))]
            assert np.array_equal(np.stack(got), expected)
            assert np.array_equal(
                reader.frame(video, FrameIndex(0)).shape, (trees.HEIGHT, trees.WIDTH, 3)
            )


def test_what_would_lose_pixels_has_a_folder_of_its_own(tmp_path: Path) -> None:
    wide = truth(1) | np.roll(truth(1), 3, axis=2)
    items = [
        pseudo_mask("0", wide, [P, P, P], 0.3),
        pseudo_mask("1", truth(1), [P, P, P], 0.8),
        pseudo_mask("2", truth(1), [P, P, P], 0.6),
        pseudo_mask("3", truth(2), [P, P, P], 0.5),
        pseudo_mask("4", truth(2), [U, U, U], 0.5),
    ]
    source = make_source(tmp_path, items, list("abcde"))
    report = exporter("ytvos")(source, tmp_path / "out")
    found = load_as_trainers_do(tmp_path / "out")
    # The lighter of two that overlap leaves; equal masks are one object; nothing known is nothing.
    assert set(found) == {("clip__e0", "0"), ("clip", "1"), ("clip", "2"), ("clip", "3")}
    assert report.notes == ["clip 4 was left out: no frame of it is known"]
    index = json.loads((tmp_path / "out/meta_expressions/train/meta_expressions.json").read_text())
    said = index["videos"]["clip"]["expressions"]
    assert said["1"]["obj_id"] == said["2"]["obj_id"] != said["3"]["obj_id"]
    assert said["1"]["weight"] == pytest.approx(0.8)
    for (_, expression), (_, masks) in found.items():
        assert np.array_equal(masks, stored(source, expression)[1])


def test_an_empty_store_and_one_of_other_frames_are_refused(
    source: ExportSource, tmp_path: Path
) -> None:
    empty = ExportSource(MaskStore(tmp_path / "none.zarr"), source.reader)
    with pytest.raises(StoreError, match="no masks"):
        exporter("ytvos")(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    index = tmp_path / "data/meta_expressions/train/meta_expressions.json"
    document = json.loads(index.read_text())
    document["videos"]["clip"]["frames"].pop()
    index.write_text(json.dumps(document))
    other = open_dataset("refytvos", tmp_path / "data", "train")
    with pytest.raises(StoreError, match="3 frames"):
        exporter("ytvos")(ExportSource(source.store, other), tmp_path / "out")


def test_a_video_that_is_gone_is_left_out_with_a_note(source: ExportSource, tmp_path: Path) -> None:
    (tmp_path / "data/train/JPEGImages/clip/00005.jpg").unlink()
    report = exporter("ytvos")(source, tmp_path / "out")
    assert "00005.jpg" in report.notes[0]


@pytest.mark.parametrize("names", [("clip", "clip__e1"), ("v" * 198,), ("\u00e9" * 100,)])
def test_no_two_folders_have_one_name_and_none_is_too_long(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    root, store = tmp_path / "data", MaskStore(tmp_path / "m.zarr")
    for name in names:
        trees.refytvos(root, video=name)
    index = root / "meta_expressions/train/meta_expressions.json"
    (entry,) = json.loads(index.read_text())["videos"].values()
    trees.write_index(root, "train", dict.fromkeys(names, entry))
    (root / "train/meta.json").unlink()
    reader = open_dataset("refytvos", root, "train")
    for name in names:
        items = [
            pseudo_mask("0", truth(1), [P, P, P], 0.9),
            pseudo_mask("1", truth(2), [U, P, P], 0.5),
        ]
        store.write_video(reader.video(name), ["a red box", "a blue box"], items)
    report = exporter("ytvos")(ExportSource(store, reader), tmp_path / "out")
    assert report.counts == {
        "videos": len(names),
        "folders": 2 * len(names),
        "samples": 2 * len(names),
    }
    found = load_as_trainers_do(tmp_path / "out")
    assert len(found) == 2 * len(names)
    assert {video for video, expression in found if expression == "0"} == set(names)
    for (video, expression), (_, masks) in found.items():
        assert len(video.encode()) <= 200
        assert np.array_equal(masks, truth(1) if expression == "0" else truth(2)[1:])
