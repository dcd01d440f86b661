"""What the review page asks for: samples, images of frames, and decisions.

Nothing is read before it is asked for, except one row per sample. Letters: T frames, H W pixels.
"""

from __future__ import annotations

from threading import RLock
from typing import Any

from cachetools import LRUCache

from flows.context import RunContext
from flows.planning.released import check_there
from flows.planning.stages import SHARD_STAGES
from flows.review.imports import Imports
from flows.review.opened import Opened, open_sample
from flows.review.pictures import Show, drawn_picture, has_truth, picture
from flows.review.prompting import Prompting, Relative
from flows.review.queue import Filters, Queue, Row, kinds_of
from pipeline.decisions import (
    Action,
    Decision,
    Sample,
    Span,
    Verdict,
    digest_of_tracks,
    digest_of_verdicts,
    now,
    verdicts_of,
)
from pipeline.drawn import Drawn
from pipeline.errors import PseudoLabelError
from pipeline.ports import Image
from pipeline.types import Augmentation, FrameIndex, Receipt, VideoRef
from storage.decisions import append_decisions, read_decisions, share_decisions
from storage.run.layout import known_layout
from storage.run.ledger import Ledger
from storage.sample_table import read_samples, read_texts
from storage.tables import read_augmentations

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
        self._imports = Imports()
        self._prompting = Prompting(context, self._read_frame)
        ledger = Ledger(self._paths.folder)
        receipts = list(ledger.each("rank"))
        if not receipts:
            raise PseudoLabelError(
                f"{self._paths.folder}: no masks yet; expected a run; make it with"
                " `pseudolabels run`"
            )
        check_there(self._paths, [item.shard for item in receipts], "a review")
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
        self.queue = Queue.of(table, texts, dict(kinds_of(context.reader(), receipts)))
        self.queue.decide(verdicts)
        self._verdicts = verdicts
        for item in receipts:
            self._note_applied(item)
        self._held: LRUCache[Sample, Opened] = LRUCache(_HELD)

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
        self._imports.start()
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
                "truth": has_truth(self._context.reader(), opened),
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
        if show == "track":
            self._imports.wait()
        with self._lock:
            opened = self._opened_at(sample, frame)
            return picture(self._context.reader(), opened, frame, show, track, width)

    def prompted(
        self, sample: Sample, frame: int, prompt: Relative, width: int
    ) -> tuple[Drawn, bytes]:
        """Returns the mask of what a person shows in a frame, and the frame with it as a JPEG.

        Raises:
            NoSampleError: there is no such sample, or frame of it.
            ValueError: nothing is shown.
        """
        with self._lock:
            opened = self._opened_at(sample, frame)
        pixels = prompt.in_pixels((opened.video.height, opened.video.width))
        self._imports.wait()
        mask = self._prompting.mask(opened.video, frame, pixels)
        with self._lock:
            shown = drawn_picture(self._context.reader(), opened, frame, mask, width)
        return Drawn.of(frame, mask), shown

    def decide(
        self,
        sample: Sample,
        action: Action,
        first: int = 0,
        last: int | None = None,
        track: int | None = None,
        drawn: Drawn | None = None,
    ) -> None:
        """Writes a decision to the disk, and takes it over.

        A tracker of the run follows a drawn mask first, which may take long.

        Raises:
            NoSampleError: there is no such sample, frame or track.
            ValueError: it is no decision.
        """
        masks = () if drawn is None else self._followed(sample, drawn, first, last)
        with self._lock:
            opened = self._opened(sample)
            if first >= len(opened.video) or (last is not None and last >= len(opened.video)):
                raise NoSampleError(f"{sample[0]}: no such frame of {len(opened.video)}")
            if track is not None and not 0 <= track < len(opened.tracks):
                raise NoSampleError(f"{sample[0]}: no track {track} of {len(opened.tracks)}")
            seen = digest_of_tracks(opened.tracks) if action == "choose" else opened.digest()
            made = Decision(self.who, now(), *sample, action, first, last, track, seen, masks)
            self._add(made)
            mine = [item for item in self._log.decisions if item.sample == sample]
            verdict = verdicts_of(mine).get(sample, Verdict())
            self._verdicts.pop(sample, None)
            if verdict:
                self._verdicts[sample] = verdict
            with self._listed:
                self.queue.decide_one(sample, verdict)
            self._held.pop(sample, None)

    def _followed(
        self, sample: Sample, drawn: Drawn, first: int, last: int | None
    ) -> tuple[Drawn, ...]:
        """Returns a drawn mask, and those that the run's tracker makes of it."""
        with self._lock:
            opened = self._opened_at(sample, drawn.frame)
            size, at = (opened.video.height, opened.video.width), drawn.frame
            if drawn.size != size:
                raise ValueError(f"a mask of {drawn.size} pixels (H, W); the frame has {size}")
            spans = (
                *self._verdicts.get(sample, Verdict()).spans,
                Span(first, last, None, "", (drawn,)),
            )
            carried = Verdict(spans=spans).carried(len(opened.video))
            mine = [t for t, span in enumerate(carried) if span is spans[-1]] + [at]
            cells = opened.candidates[at].logits.shape[1:]
        more = self._prompting.followed(opened.video, drawn, min(mine), max(mine), cells)
        return drawn, *more

    def _add(self, made: Decision) -> None:
        """Writes a decision, and reads what other processes have written in the meantime."""
        path, known = self._paths.decisions, self._size
        before, self._size = append_decisions(path, [made])
        share_decisions(path)
        if before == known and path.stat().st_size == self._size:
            self._log.decisions.append(made)
        else:
            self._size = path.stat().st_size
            self._log = read_decisions(path)

    def explain(self, sample: Sample, frame: int) -> dict[str, Any]:
        """Returns why a frame of a sample is what it is, in lines of words."""
        from flows.review.explain import explain_frame

        with self._lock:
            self._opened_at(sample, frame)
        self._imports.wait()
        found = explain_frame(self._context, self._shard_of[sample[0]], sample, frame)
        return {"lines": found.lines()}

    def _opened_at(self, sample: Sample, frame: int) -> Opened:
        opened = self._opened(sample)
        if not 0 <= frame < len(opened.video):
            raise NoSampleError(f"{sample[0]}: no frame {frame} of {len(opened.video)}")
        return opened

    def _opened(self, sample: Sample) -> Opened:
        if sample not in self.queue:
            raise NoSampleError(f"{sample[0]} {sample[1]}: no such sample; reload the page")
        if sample not in self._held:
            shard = self._shard_of[sample[0]]
            verdict = self._verdicts.get(sample, Verdict())
            done = self._is_applied(sample, shard, verdict)
            if not done:
                self._imports.wait()
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

    def _read_frame(self, video: VideoRef, frame: int) -> Image:
        with self._lock:
            return self._context.reader().frame(video, FrameIndex(frame))

    def _texts(self, sample: Sample) -> dict[str, list[str]]:
        found = read_augmentations(self._paths.part("augment", self._shard_of[sample[0]]))
        mine: list[Augmentation] = [
            item for item in found.get(sample[0], []) if item.key.expression == sample[1]
        ]
        return {
            "positives": [text.text for item in mine for text in item.positives],
            "negatives": [text.text for item in mine for text in item.negatives],
        }
