from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets import open_dataset
from storage.datasets.weak import VIEWS, View, WeakView
from tests.storage.datasets import trees


@pytest.fixture
def reader(tmp_path: Path) -> DatasetReader:
    root = trees.refytvos(tmp_path / "root")
    # Object 1 is not there yet in the first frame.
    ids = trees.index_mask(0)
    trees.write_mask(root / "train/Annotations/clip/00000.png", np.where(ids == 1, 0, ids))
    return open_dataset("shapes", root, "train")


def _sample(reader: DatasetReader) -> tuple[VideoRef, Expression, list[FrameIndex]]:
    video = reader.video("clip")
    return video, reader.expressions("clip")[0], [FrameIndex(index) for index in range(len(video))]


@pytest.mark.parametrize(
    ("view", "masks", "boxes"),
    [("boxes", [None] * 3, [0, 1, 1]), ("first_mask", [None, True, None], [0, 1, 1])],
)
def test_a_view_shows_its_annotation_and_no_more(
    reader: DatasetReader, view: View, masks: list[bool | None], boxes: list[int | None]
) -> None:
    weak = WeakView(reader, view)
    video, expression, indices = _sample(reader)

    def counts(found: list[np.ndarray | None]) -> list[int | None]:
        return [None if item is None else len(item) for item in found]

    truths = [weak.truth(video, expression, index) for index in indices]
    assert [None if mask is None else bool(mask.any()) for mask in truths] == masks
    assert counts([weak.boxes(video, expression, index) for index in indices]) == boxes


@pytest.mark.parametrize("view", VIEWS)
def test_videos_and_sentences_are_the_readers(reader: DatasetReader, view: View) -> None:
    weak: DatasetReader = WeakView(reader, view)
    assert (weak.name, weak.split) == (reader.name, reader.split)
    assert weak.video_ids() == reader.video_ids()
    assert weak.expressions("clip") == reader.expressions("clip")
    video = weak.video("clip")
    frames = weak.frame(video, FrameIndex(1)), reader.frame(video, FrameIndex(1))
    assert np.array_equal(*frames)


def test_an_unknown_view_is_refused(reader: DatasetReader) -> None:
    with pytest.raises(ValueError, match="scribble"):
        WeakView(reader, "scribble")  # type: ignore[arg-type]
