"""What the review page asks for: samples, images of frames, and decisions.

Nothing is read before it is asked for, except one row per sample. Letters: T frames, H W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from threading import RLock, Thread
from typing import Any, Literal

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image as Pillow

from flows.context import RunContext
from flows.planning.stages import SHARD_STAGES
from flows.report.draw import OTHER, TRUE, overlay, predicted_frame
from flows.review.opened import Opened, open_sample
from flows.review.queue import Filters, Queue, Row
from pipeline.decisions import (
    Action,
    Decision,
    Sample,
    Verdict,
    digest_of_tracks,
    digest_of_verdicts,
    now,
    verdicts_of,
)
from pipeline.errors import InputError, PseudoLabelError
from pipeline.types import Augmentation, FrameIndex, Receipt
from storage.decisions import append_decisions, read_decisions
from storage.run.layout import known_layout
from storage.run.ledger import Ledger
from storage.sample_table import read_samples, read_texts
from storage.tables import read_augmentations

Show = Literal["mask", "plain", "truth", "track"]

_QUALITY = 85
_HELD = 6
MOST_TRACKS = 5
"""Tracks of a video that are offered for a sample."""


class NoSampleError(PseudoLabelError):
    """The run has no such sample."""


class Session:
    """The review of one run by one person. Its methods may be called by several threads.

    Args:
        context: of the run; its plan is not needed.
        who: name that goes with the decisions.
    """

    def __init__(self, context: RunContext, who: str) -> None:
        self.who, self._context, self._paths = who, context, context.paths
        # A list must not wait for a sample that is being opened.
        self._lock, self._listed = RLock(), RLock()
        self._is_getting_ready = False
        ledger = Ledger(self._paths.folder)
        receipts = list(ledger.receipts("rank"))
        if not receipts:
            raise PseudoLabelError(
                f"{self._paths.folder}: no masks yet; expected a run; make it with"
                " `pseudolabels run`"
            )
        layout = known_layout(self._paths.folder, SHARD_STAGES)
        self._shard_of = {video: shard for shard, videos in layout.items() for video in videos}
        self._size = path.stat().st_size if (path := self._paths.decisions).exists() else 0
        self._log = read_decisions(path)
        self.problems = list(self._log.problems)
        verdicts = verdicts_of(self._log.decisions)
        self._applied: dict[str, tuple[str, dict[Sample, Verdict]]] = {}
        table = read_samples(self._paths.part("rank", item.shard) for item in receipts)
        texts = {
            (video, expression): text
            for video, expression, text in read_texts(
                self._paths.part("augment", item.shard) for item in receipts
            )
        }
        self.queue = Queue.of(table, texts, dict(self._kinds(receipts)))
        self.queue.decide(verdicts)
        self._verdicts = verdicts
        for item in receipts:
            self._note_applied(item)
        self._held: LRUCache[Sample, Opened] = LRUCache(_HELD)

    def _kinds(self, receipts: Sequence[Any]) -> Iterator[tuple[Sample, str | None]]:
        reader = self._context.reader()
        for video in (video for item in receipts for video in item.videos):
            try:
                for item in reader.expressions(video):
                    yield (video, item.key.expression), item.kind
            except InputError:
                # Its samples are listed without a kind.
                continue

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._paths.folder.name

    def page(self, filters: Filters, start: int, count: int) -> tuple[list[Row], int]:
        """Returns some rows of a filtered list, worst first, and the length of the whole list."""
        with self._listed:
            return self.queue.page(filters, start, count)

    def details(self, sample: Sample) -> dict[str, Any]:
        """Returns everything about a sample but its images.

        Raises:
            NoSampleError: there is no such sample.
            PseudoLabelError: a file of the run or of the data set cannot be read.
        """
        self._get_ready()
        with self._lock:
            opened = self._opened(sample)
            verdict = self._verdicts.get(sample, Verdict())
            frames = [
                {
                    "name": name,
                    "status": row.status,
                    "weight": round(row.weight, 3),
                    "reason": row.reason,
                }
                for name, row in zip(opened.video.frames, opened.rows, strict=True)
            ]
            history = [item.as_json() for item in self._log.decisions if item.sample == sample]
            return {
                "row": vars(self.queue.find(sample)),
                "size": [opened.video.height, opened.video.width],
                "frames": frames,
                "truth": any(self._truth(opened, t) is not None for t in range(len(opened.video))),
                "tracks": opened.order[:MOST_TRACKS],
                "verdict": verdict.words(),
                "history": history,
                "texts": self._texts(sample),
            }

    def image(self, sample: Sample, frame: int, show: Show, track: int, width: int) -> bytes:
        """Returns a frame as a JPEG.

        Args:
            frame: position of the frame.
            show: ``mask``: with the sample's mask; ``track``: with a track's; ``truth``: with the
                ground truth, if there is one; ``plain``: alone.
            track: number of the track.
            width: of the image, pixels; at most the frame's.

        Raises:
            NoSampleError: there is no such sample, or frame of it.
        """
        with self._lock:
            opened = self._opened(sample)
            if not 0 <= frame < len(opened.video):
                raise NoSampleError(f"{sample[0]}: no frame {frame} of {len(opened.video)}")
            image = self._context.reader().frame(opened.video, FrameIndex(frame))
            wide = min(width, opened.video.width)
            drawn = self._drawn(opened, image, frame, show, track, wide)
        buffer = io.BytesIO()
        Pillow.fromarray(drawn).save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()

    def decide(
        self,
        sample: Sample,
        action: Action,
        first: int = 0,
        last: int | None = None,
        track: int | None = None,
    ) -> None:
        """Writes a decision to the disk, and takes it over.

        Raises:
            NoSampleError: there is no such sample, frame or track.
            ValueError: it is no decision.
        """
        with self._lock:
            opened = self._opened(sample)
            if first >= len(opened.video) or (last is not None and last >= len(opened.video)):
                raise NoSampleError(f"{sample[0]}: no such frame of {len(opened.video)}")
            if track is not None and not 0 <= track < len(opened.tracks):
                raise NoSampleError(f"{sample[0]}: no track {track} of {len(opened.tracks)}")
            seen = digest_of_tracks(opened.tracks) if action == "choose" else opened.digest()
            made = Decision(self.who, now(), *sample, action, first, last, track, seen)
            self._add(made)
            mine = [item for item in self._log.decisions if item.sample == sample]
            verdict = verdicts_of(mine).get(sample, Verdict())
            self._verdicts.pop(sample, None)
            if verdict:
                self._verdicts[sample] = verdict
            with self._listed:
                self.queue.decide_one(sample, verdict)
            self._held.pop(sample, None)

    def _add(self, made: Decision) -> None:
        """Writes a decision, and reads what other processes have written in the meantime."""
        path, known = self._paths.decisions, self._size
        before, self._size = append_decisions(path, [made])
        if before == known:
            self._log.decisions.append(made)
        else:
            self._size = path.stat().st_size
            self._log = read_decisions(path)

    def explain(self, sample: Sample, frame: int) -> dict[str, Any]:
        """Returns why a frame of a sample is what it is, in lines of words."""
        from flows.review.explain import explain_frame

        with self._lock:
            opened = self._opened(sample)
            if not 0 <= frame < len(opened.video):
                raise NoSampleError(f"{sample[0]}: no frame {frame} of {len(opened.video)}")
        found = explain_frame(self._context, self._shard_of[sample[0]], sample, frame)
        return {"lines": found.lines()}

    def _get_ready(self) -> None:
        """Loads in the background what the masks of other tracks need; it takes seconds once."""
        if not self._is_getting_ready:
            self._is_getting_ready = True
            Thread(target=import_module, args=("stages.decided",), daemon=True).start()

    def _opened(self, sample: Sample) -> Opened:
        if sample not in self.queue:
            raise NoSampleError(f"{sample[0]} {sample[1]}: no such sample; reload the page")
        if sample not in self._held:
            shard = self._shard_of[sample[0]]
            verdict = self._verdicts.get(sample, Verdict())
            done = self._is_applied(sample, shard, verdict)
            self._held[sample] = open_sample(self._context, shard, sample, verdict, done)
        return self._held[sample]

    def _is_applied(self, sample: Sample, shard: str, verdict: Verdict) -> bool:
        """Whether the run's masks of a sample were made with a verdict.

        A receipt says only whether all decisions about its shard were done. What they were is
        remembered while the receipt stays the same. Without decisions a sample is as it was made.
        """
        receipt = Ledger(self._paths.folder).receipt("rank", shard)
        if receipt is None:
            return False
        self._note_applied(receipt)
        if not any(item.sample == sample for item in self._log.decisions):
            return True
        fingerprint, done = self._applied.get(shard, ("", {}))
        return fingerprint == receipt.fingerprint and done.get(sample, Verdict()) == verdict

    def _note_applied(self, receipt: Receipt) -> None:
        """Remembers the verdicts of a shard, if its masks were made with them."""
        now_said = digest_of_verdicts(self._verdicts, receipt.videos)
        if receipt.basis.get("decisions", "") == now_said:
            mine = {key: said for key, said in self._verdicts.items() if key[0] in receipt.videos}
            self._applied[receipt.shard] = receipt.fingerprint, mine

    def _drawn(
        self,
        opened: Opened,
        image: NDArray[np.uint8],
        frame: int,
        show: Show,
        track: int,
        width: int,
    ) -> NDArray[np.uint8]:
        size = opened.video.height, opened.video.width
        nothing = np.zeros(size, np.bool_)
        if show == "mask":
            return predicted_frame(image, opened.mask(frame), opened.rows[frame].status, width)
        if show == "track":
            from stages.decided import track_mask

            rules = self._context.config.rank
            mask = track_mask(
                opened.hypotheses, opened.candidates, opened.tracks, frame, track, size, rules
            )
            return overlay(image, nothing if mask is None else mask, OTHER, width)
        truth = self._truth(opened, frame) if show == "truth" else None
        return overlay(image, nothing if truth is None else truth, TRUE, width)

    def _truth(self, opened: Opened, frame: int) -> NDArray[np.bool_] | None:
        try:
            return self._context.reader().truth(opened.video, opened.expression, FrameIndex(frame))
        except InputError:
            return None

    def _texts(self, sample: Sample) -> dict[str, list[str]]:
        found = read_augmentations(self._paths.part("augment", self._shard_of[sample[0]]))
        mine: list[Augmentation] = [
            item for item in found.get(sample[0], []) if item.key.expression == sample[1]
        ]
        return {
            "positives": [text.text for item in mine for text in item.positives],
            "negatives": [text.text for item in mine for text in item.negatives],
        }
