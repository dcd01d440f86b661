"""Stage ``rank`` on a shard: pseudo-masks and a row of quality for every frame."""

from __future__ import annotations

from collections import Counter

from flows.context import RunContext
from flows.labelling.videos import Done, Later, count_frames, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.decisions import Verdict, digest_of_tracks, digest_of_verdicts
from pipeline.errors import StoreError
from pipeline.judgements import trust_of
from pipeline.types import FrameQuality, PseudoMask, Tracks, VideoRef
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses
from storage.arrays.masks import MaskStore
from storage.tables import read_augmentations, write_quality
from storage.track_table import read_tracks


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the masks of a shard into the run's store, and the shard's quality table."""
    paths = context.paths
    store = MaskStore(paths.masks)
    texts: dict[tuple[str, str], str] = {
        (item.key.video, item.key.expression): item.original
        for mine in read_augmentations(paths.part("augment", job.shard.name)).values()
        for item in mine
    }
    quality: list[FrameQuality] = []
    judgements = context.judgements(job.shard.name)
    meter = Meter()
    _check_decisions(job, context)

    def work(video: VideoRef, later: Later) -> Done:
        masks, mine = [], []
        counts: Counter[str] = Counter()
        hypotheses = StoredHypotheses(context.hypotheses(job.shard.name), video.id)
        candidates = StoredCandidates(paths.candidates(job.shard.name), video.id)
        for item in hypotheses:
            with meter.measure(BUSY):
                mask, rows = context.parts.rank(
                    item,
                    candidates,
                    video,
                    context.config,
                    job.fingerprint,
                    context.calibration,
                    trust_of(judgements, item.key),
                )
                if verdict := context.verdicts.get((video.id, item.key.expression)):
                    tracks = read_tracks(paths.part("track", job.shard.name), video.id)
                    made = mask, rows, item, candidates, tracks, context.config
                    mask, rows = context.parts.decide(
                        _fitting(verdict, tracks, mask, context), *made
                    )
                    counts["decided by people"] += 1
            masks.append(mask)
            mine += rows
            count_frames(counts, mask.status, [row.reason for row in rows])
            context.progress.advance(1 / len(hypotheses), len(video))
        sentences = [texts[video.id, mask.key.expression] for mask in masks]

        def write() -> None:
            store.write_video(video, sentences, masks)
            quality.extend(mine)

        return Done(len(video) * len(masks), write, counts)

    each_video(context, job.shard, outcome, work, meter)
    for video_id in (*outcome.skipped_before, *outcome.skipped):
        store.remove_video(video_id)
    write_quality(paths.part("rank", job.shard.name), quality)


def _fitting(verdict: Verdict, tracks: Tracks, mask: PseudoMask, context: RunContext) -> Verdict:
    """Returns a verdict without choices among other tracks than those that the run has now, and
    without masks of frames of another size."""
    fitting = verdict.fitting(digest_of_tracks(tracks), mask.mask.shape[1:])
    if len(fitting.spans) < len(verdict.spans):
        context.progress.say(
            f"{mask.key.video} {mask.key.expression}: a track was chosen before the tracks were"
            " made anew, or a mask drawn in frames of another size; it was left out; decide again",
            "yellow",
        )
    return fitting


def _check_decisions(job: Job, context: RunContext) -> None:
    """Raises StoreError if the decisions are not those that the job's fingerprint covers.

    A worker of another process reads the file itself, perhaps after it has grown.
    """
    if digest_of_verdicts(context.verdicts, job.shard.videos) != job.basis.get("decisions", ""):
        raise StoreError(
            f"{context.paths.decisions}: people decided on videos of shard {job.shard.name} while"
            " the run was going; expected the decisions of its start; run the same command again"
        )
