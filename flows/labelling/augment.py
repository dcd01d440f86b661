"""Stage ``augment`` on a shard: positives and hard negatives for every expression."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from flows.context import RunContext
from flows.labelling.videos import Done, Later, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, FRAMES, Meter
from pipeline.ports import CaptionRequest
from pipeline.sampling import pick_frames
from pipeline.types import Augmentation, VideoRef
from stages.augment.frames import fitted, times_of
from stages.augment.siblings import others_of, with_siblings
from storage.tables import write_augmentations

SIMILARITY = "similarity from {:.2f}"
"""The name of the count of positives with a similarity of at least so much, and less than a step
more; those that were left out among them."""

SIMILARITY_STEP = 0.05


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the augmentations of a shard."""
    config, reader, captioner = context.config.augment, context.reader(), context.captioner()
    written: list[Augmentation] = []
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        expressions = reader.expressions(video.id)
        with meter.measure(FRAMES):
            picked = pick_frames(len(video), config.frames) if config.needs_frames else []
            limit = config.pixels_of_frame
            images = [fitted(reader.frame(video, index), limit) for index in picked]
        times = times_of(video, picked, config) if config.input == "video" else ()
        requests = [
            CaptionRequest(video, images, item, others_of(item, expressions), times)
            for item in expressions
        ]
        with meter.measure(BUSY):
            answers = captioner.augment(requests)
        augmentations = [answer.augmentation for answer in answers]
        if config.siblings:
            augmentations = [
                with_siblings(item, expressions, config.positives) for item in augmentations
            ]
        counts = Counter(
            expressions=len(expressions),
            positives=sum(len(item.positives) for item in augmentations),
            negatives=sum(len(item.negatives) for item in augmentations),
        )
        for side, name in enumerate(("tokens read", "tokens written")):
            if tokens := sum(answer.tokens[side] for answer in answers):
                counts[name] = tokens
        for value in (value for answer in answers for value in answer.similarities):
            counts[SIMILARITY.format(SIMILARITY_STEP * int(value / SIMILARITY_STEP + 1e-9))] += 1
        for answer in answers:
            counts.update({f"left out: {name}": n for name, n in answer.left_out.items()})
        return Done(len(images), partial(written.extend, augmentations), counts)

    each_video(context, job.shard, outcome, work, meter)
    measure = ""
    if config.similarity == "encoder":
        name = Path(str(config.similarity_checkpoint)).name
        weights = str(job.basis["similarity_weights"])[:12]
        measure = (
            f"cosine of {name} ({weights}) as a share of the original's, at least"
            f" {config.minimum_similarity:g}"
        )
    write_augmentations(context.paths.part("augment", job.shard.name), written, measure)
