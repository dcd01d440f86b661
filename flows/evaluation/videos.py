"""The videos of a data set for an evaluation, which needs their ground truth and not their
frames."""

from __future__ import annotations

from flows.evaluation.scores import left_out
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import VideoRef
from storage.datasets.base import MaskedReader


def video_or_truth(
    reader: DatasetReader, video_id: str, problems: list[str]
) -> VideoRef | InputError:
    """A video; where its frames cannot be read, the video as its ground truth alone tells of it.

    Args:
        reader: of the split.
        video_id: one of its ids.
        problems: gets a sentence about what could not be read.

    Returns:
        The video, or the error of its frames where there is no ground truth that tells of it
        either.
    """
    try:
        return reader.video(video_id)
    except InputError as error:
        try:
            if not isinstance(reader, MaskedReader):
                raise error
            video = reader.annotated_video(video_id)
        except InputError:
            problems.append(left_out(video_id, error))
            return error
        problems.append(f"{video_id} is measured by its ground truth alone: {error}")
        return video
