"""What is in a data set: sentences, frames, targets; no pixel is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.words import words_of
from storage.datasets.meta_expressions import IndexedReader


@dataclass
class DatasetStatistics:
    """Figures of a split.

    Attributes:
        words: of each expression.
        types: distinct words, in lower case.
        starts: first word -> expressions that begin with it.
        per_video: expressions of a video -> videos that have so many.
        frames: of each video.
        not_from_zero: videos whose first frame is not called 0.
        kinds: kind of expression -> expressions, where the data set says.
        unreadable: videos or expressions that could not be read.
    """

    videos: int = 0
    expressions: int = 0
    objects: int = 0
    words: list[int] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    starts: Counter[str] = field(default_factory=Counter)
    per_video: Counter[int] = field(default_factory=Counter)
    frames: list[int] = field(default_factory=list)
    not_from_zero: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each figure, to be shown."""
        words, frames = np.array(self.words or [0]), np.array(self.frames or [0])
        start, count = (self.starts.most_common(1) or [("", 0)])[0]
        usual = ", ".join(f"{n}: {c}" for n, c in sorted(self.per_video.most_common(6)))
        result = [
            ("videos", f"{self.videos:,}"),
            ("expressions", f"{self.expressions:,}"),
            ("objects named", f"{self.objects:,}"),
            ("expressions a video: videos", usual),
            (
                "words an expression",
                f"{words.mean():.1f} ± {words.std():.1f} ({words.min()}–{words.max()})",
            ),
            ("word types", f"{len(self.types):,}"),
            ("most frequent first word", f"{start!r}, {count / max(1, self.expressions):.0%}"),
            ("frames a video", f"{frames.mean():.1f} ({frames.min()}–{frames.max()})"),
            ("videos that do not start at frame 0", f"{self.not_from_zero:,}"),
        ]
        if self.kinds:
            kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())
            result.append(("kinds", kinds))
        if self.unreadable:
            result.append(("could not be read", f"{self.unreadable:,}; see `dataset check`"))
        return result


def dataset_statistics(reader: DatasetReader) -> DatasetStatistics:
    """Goes through the index of a split; frames are counted by the index where it lists them."""
    result = DatasetStatistics()
    for video_id in reader.video_ids():
        result.videos += 1
        try:
            expressions = reader.expressions(video_id)
        except (InputError, OSError):
            result.unreadable += 1
            continue
        result.per_video[len(expressions)] += 1
        result.objects += len({name for item in expressions for name in item.object_ids})
        for item in expressions:
            words = words_of(item.text.lower())
            result.expressions += 1
            result.words.append(len(words))
            result.types.update(words)
            result.starts[words[0]] += 1
            if item.kind is not None:
                result.kinds[item.kind] += 1
        try:
            names = (
                reader.frame_names(video_id)
                if isinstance(reader, IndexedReader)
                else reader.video(video_id).frames
            )
        except (InputError, OSError):
            result.unreadable += 1
            continue
        result.frames.append(len(names))
        result.not_from_zero += bool(names) and not set(str(names[0])) <= {"0"}
    return result
