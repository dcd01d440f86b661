"""Holds what a process needs to work on a run: the reader, the device, and one stage's model.

A model is loaded when the first shard needs it, and freed when another stage's model is needed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.dataset import dataset_root
from flows.planning.plan import Plan, make_plan
from flows.planning.run_paths import RunPaths
from flows.planning.sources import SourceDigests
from flows.planning.stage_selection import Scope
from flows.planning.stages import SHARD_STAGES
from flows.planning.weight_digests import WeightDigests
from flows.progress import Reporter, Silent
from pipeline.calibration import Calibration
from pipeline.config import CALIBRATED, RunConfig
from pipeline.decisions import Sample, Verdict, digest_of_verdicts, verdicts_of
from pipeline.errors import InputError, ModelError, PseudoLabelError
from pipeline.judgements import Judge, Judgement, Ruling
from pipeline.ports import (
    Captioner,
    DatasetReader,
    Grounder,
    PhraseTracker,
    Segmenter,
    Tracker,
)
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    CandidateScores,
    FrameQuality,
    Hypotheses,
    PseudoMask,
    SampleKey,
    Tracks,
    VideoRef,
)
from stages.common.checkpoints import checkpoint_files
from storage.calibration_file import read_calibration
from storage.decisions import DecisionLog, read_decisions
from storage.judgement_table import read_judgements
from storage.remote.data_copy import DataCopy, copy_of
from storage.run.layout import known_layout
from storage.run.ledger import Ledger

if TYPE_CHECKING:
    import torch

MEASURED_SPLITS = ("valid", "val", "test")
"""Names of the splits that data sets are measured on, in the order in which one is looked for."""


def _device(name: str) -> torch.device:
    from stages.common.weights import resolve_device

    return resolve_device(name)


def _captioner(
    config: RunConfig, device: torch.device, content: Mapping[SampleKey, Augmentation] | None
) -> Captioner:
    from stages.augment import load_captioner

    return load_captioner(config.augment, device, config.seed, content)


def _grounder(config: RunConfig, device: torch.device) -> Grounder:
    from stages.ground.grounder import load_grounder

    return load_grounder(config.ground, device)


def _segmenter(config: RunConfig, device: torch.device) -> Segmenter:
    from stages.segment.segmenter import load_segmenter

    return load_segmenter(config.segment, device)


def _track(
    sentences: int,
    boxes: Sequence[Boxes],
    candidates: Sequence[Candidates],
    config: RunConfig,
    cuts: Sequence[int],
) -> Tracks:
    from stages.track import associate

    return associate(sentences, boxes, candidates, config.track, cuts)


def _tracker(config: RunConfig, device: torch.device) -> Tracker:
    from stages.track.video_model import load_tracker

    return load_tracker(config.track, device)


def _phrase_tracker(config: RunConfig, device: torch.device) -> PhraseTracker:
    from stages.track.phrase_model import load_phrase_tracker

    return load_phrase_tracker(config.track, device)


def _fuse(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: RunConfig,
    ruling: Ruling | None = None,
) -> Hypotheses:
    from stages.fuse import fuse

    return fuse(augmentation, texts, boxes, candidates, tracks, config.fuse, ruling)


def _judge(config: RunConfig, device: torch.device | None) -> Judge:
    from stages.judge import load_judge

    return load_judge(config.judge, device, config.seed)


def _rank(
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    video: VideoRef,
    config: RunConfig,
    fingerprint: str,
    calibration: Calibration | None,
    trust: float = 1.0,
) -> tuple[PseudoMask, list[FrameQuality]]:
    from stages.rank import rank

    return rank(hypotheses, candidates, video, config.rank, fingerprint, calibration, trust)


def _decide(
    verdict: Verdict,
    mask: PseudoMask,
    rows: Sequence[FrameQuality],
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    tracks: Tracks,
    config: RunConfig,
) -> tuple[PseudoMask, list[FrameQuality]]:
    from stages.decided import apply_verdict

    return apply_verdict(verdict, mask, rows, hypotheses, candidates, tracks, config.rank)


@dataclass(frozen=True)
class Parts:
    """The models and functions of the stages. Tests replace them by fakes."""

    captioner: Callable[[RunConfig, Any, Mapping[SampleKey, Augmentation] | None], Captioner] = (
        _captioner
    )
    grounder: Callable[[RunConfig, Any], Grounder] = _grounder
    segmenter: Callable[[RunConfig, Any], Segmenter] = _segmenter
    track: Callable[..., Tracks] = _track
    tracker: Callable[[RunConfig, Any], Tracker] = _tracker
    phrase_tracker: Callable[[RunConfig, Any], PhraseTracker] = _phrase_tracker
    fuse: Callable[..., Hypotheses] = _fuse
    judge: Callable[[RunConfig, Any], Judge] = _judge
    rank: Callable[..., tuple[PseudoMask, list[FrameQuality]]] = _rank
    decide: Callable[..., tuple[PseudoMask, list[FrameQuality]]] = _decide
    checkpoint_files: Callable[[str], Sequence[Path]] = checkpoint_files
    device: Callable[[str], Any] = _device


@dataclass
class RunContext:
    """The reader and the models of one process for one run.

    Attributes:
        config: resolved configuration.
        parts: the models and functions of the stages.
        progress: is told about every video.
        plan: the jobs of the run; None in a process that only does single shards.
        publish: shows a page beside the run, given its name and its Markdown text.
        preset: name of the preset that the configuration started from, if there is one.
        train_elsewhere: trains the run's student in other processes, given its folder and what to
            call with the history at every checkpoint, as ``train_student`` does; None trains here.
    """

    config: RunConfig
    parts: Parts = field(default_factory=Parts)
    progress: Reporter = field(default_factory=Silent)
    plan: Plan | None = None
    publish: Callable[[str, str], None] = lambda name, markdown: None
    preset: str | None = None
    train_elsewhere: Callable[[Path, Callable[[Any], None]], Any] | None = None
    _readers: dict[str, DatasetReader] = field(default_factory=dict)
    _copy: DataCopy | None = None
    _loaded: tuple[str, Any] | None = None
    _device: Any = None
    _sources: SourceDigests | None = None
    _decisions: DecisionLog | None = None
    _verdicts: dict[Sample, Verdict] | None = None
    _calibration: Calibration | None = None

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.config.run_folder)

    def reader(self, split: str | None = None) -> DatasetReader:
        """Returns the reader of a split; by default of the labelled one."""
        name = split or self.config.dataset.split
        if name not in self._readers:
            from storage.datasets import open_dataset

            self._readers[name] = open_dataset(
                self.config.dataset.name,
                dataset_root(self.config),
                name,
                self.config.dataset.links,
                self.config.dataset.sampling,
                self.data_copy,
            )
        return self._readers[name]

    @property
    def data_copy(self) -> DataCopy | None:
        """The local copy of a data set in an object store, of which one listing serves all splits;
        None for a data set in a folder."""
        if self._copy is None:
            self._copy = copy_of(dataset_root(self.config))
        return self._copy

    @property
    def the_plan(self) -> Plan:
        """Returns the plan. Stages of the whole run need it."""
        assert self.plan is not None, "a run needs a plan"
        return self.plan

    def make_plan(
        self, retry_skipped: bool = False, scope: Scope | None = None, remember: bool = True
    ) -> Plan:
        """Returns what the run has to do.

        Args:
            retry_skipped: try skipped videos again.
            scope: stages to do, and stages to do again; None for all.
            remember: store digests of weights and source files; False writes nothing.
        """
        self.config = self._with_prediction_split()
        self._decisions = self._verdicts = None
        scope, folder = scope or Scope(), self.config.run_folder
        return make_plan(
            self.config,
            self.reader(),
            Ledger(folder),
            self.weight_digests(remember).of_checkpoint,
            retry_skipped,
            known_layout(folder, SHARD_STAGES),
            scope.again,
            scope.stages,
            self.source_digests(remember).of_shard,
            lambda videos: digest_of_verdicts(self.verdicts, videos),
        )

    @property
    def decisions(self) -> DecisionLog:
        """What people decided about the masks, as of the time of the plan."""
        if self._decisions is None:
            self._decisions = read_decisions(self.paths.decisions)
        return self._decisions

    @property
    def verdicts(self) -> dict[Sample, Verdict]:
        """What the decisions come to, sample by sample."""
        if self._verdicts is None:
            self._verdicts = verdicts_of(self.decisions.decisions)
        return self._verdicts

    def prediction_split(self) -> str:
        """Returns the split that the student predicts.

        This is ``dataset.predict_split``; else the first of :data:`MEASURED_SPLITS` that the data
        set has; else the labelled split.

        Raises:
            InputError: one of these splits is damaged.
        """
        asked = self.config.dataset.predict_split
        if asked is not None:
            return asked
        for split in MEASURED_SPLITS:
            try:
                if self.reader(split).video_ids():
                    return split
            except InputError as error:
                # Missing files, or no split of that name: it is absent, not damaged.
                if not error.missing and error.found != f"split {split!r}":
                    raise
        return self.config.dataset.split

    def _with_prediction_split(self) -> RunConfig:
        """Returns the configuration with the split that the student predicts written out.

        Predictions are then measured on that split, even if the data set gets another one later.
        """
        config = self.config
        if not config.student.enabled or config.dataset.predict_split is not None:
            return config
        dataset = config.dataset.model_copy(update={"predict_split": self.prediction_split()})
        return config.model_copy(update={"dataset": dataset})

    def finished_shards(self, stage: str = "rank") -> list[str]:
        """Returns the names of the run's shards that have a receipt of a stage."""
        ledger = Ledger(self.config.run_folder)
        shards = self.the_plan.run_shards
        return [item.name for item in shards if ledger.receipt(stage, item.name) is not None]

    @property
    def device(self) -> Any:
        if self._device is None:
            self._device = self.parts.device(self.config.device)
        return self._device

    def weight_digests(self, remember: bool = False) -> WeightDigests:
        """Returns the digests of checkpoints, with those that the run has stored.

        Args:
            remember: store new digests.
        """
        place = self.paths.folder / "ledger" / "weights.json"
        return WeightDigests(place, self.parts.checkpoint_files, remember)

    def source_digests(self, remember: bool = True) -> SourceDigests:
        """Returns the digests of the frames and the ground truth of the labelled split.

        Args:
            remember: store new digests, also where they take a download.
        """
        if self._sources is None:
            folder, reader = self.paths.folder, self.reader()
            self._sources = SourceDigests(folder, reader, remember, self.data_copy)
        return self._sources

    @property
    def calibration(self) -> Calibration | None:
        """What the scores of the grounder stand for; None if they are taken as they are.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = self.config.fuse.calibration
        if path is not None and self._calibration is None:
            self._calibration = read_calibration(path)
        return self._calibration

    @property
    def judging(self) -> RunConfig:
        """The configuration with the thresholds of `fuse` as scores, if they are probabilities."""
        if self.calibration is None:
            return self.config
        limits = {
            name: self.calibration.score_at(getattr(self.config.fuse, name)) for name in CALIBRATED
        }
        fuse = self.config.fuse.model_copy(update=limits)
        return self.config.model_copy(update={"fuse": fuse})

    def captioner(self) -> Captioner:
        """Returns the captioner; loads it if necessary."""
        section = self.config.augment
        if section.source in ("lexicon", "none", "endpoint") and section.similarity == "captioner":
            device, content = None, None
        else:
            device, content = self.device, self._file_content()
        captioner: Captioner = self._held(
            "augment", lambda: self.parts.captioner(self.config, device, content)
        )
        return captioner

    def grounder(self) -> Grounder:
        """Returns the grounder; loads it if necessary."""
        grounder: Grounder = self._held(
            "ground", lambda: self.parts.grounder(self.config, self.device)
        )
        return grounder

    def segmenter(self) -> Segmenter:
        """Returns the segmenter; loads it if necessary."""
        segmenter: Segmenter = self._held(
            "segment", lambda: self.parts.segmenter(self.config, self.device)
        )
        return segmenter

    def tracker(self) -> Tracker:
        """Returns the tracker; loads it if necessary."""
        tracker: Tracker = self._held("track", lambda: self.parts.tracker(self.config, self.device))
        return tracker

    def phrase_tracker(self) -> PhraseTracker:
        """Returns the tracker of noun phrases; loads it if necessary."""
        tracker: PhraseTracker = self._held(
            "track", lambda: self.parts.phrase_tracker(self.config, self.device)
        )
        return tracker

    def judge(self) -> Judge:
        """Returns the judge; loads it if necessary."""
        device = self.device if self.config.judge.source == "model" else None
        judge: Judge = self._held("judge", lambda: self.parts.judge(self.config, device))
        return judge

    def hypotheses(self, shard: str) -> Path:
        """Returns the store of hypotheses that the masks of a shard are made of."""
        return self.paths.part("judge" if self.config.judge.is_on else "fuse", shard)

    def judgements(self, shard: str) -> Mapping[Sample, Judgement]:
        """Returns what a judge said about the sentences of a shard; nothing without a judge."""
        if not self.config.judge.is_on:
            return {}
        return read_judgements(self.paths.judgements(shard))

    def release(self) -> None:
        """Frees the model that is loaded."""
        if self._loaded is None:
            return
        close = getattr(self._loaded[1], "close", None)
        if close is not None:
            close()
        self._loaded = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def abandon(self) -> None:
        """Forgets the model that is loaded without freeing it: a thread that hangs may use it."""
        self._loaded = None

    def _held(self, stage: str, load: Callable[[], Any]) -> Any:
        if self._loaded is None or self._loaded[0] != stage:
            self.release()
            self._loaded = (stage, _loaded(stage, load))
        return self._loaded[1]

    def _file_content(self) -> Mapping[SampleKey, Augmentation] | None:
        path = self.config.augment.file
        if self.config.augment.source != "file" or path is None:
            return None
        from storage.augmentation_file import read_augmentation_file

        dataset = self.config.dataset
        return read_augmentation_file(path, dataset.name, dataset.split)


def _loaded(stage: str, load: Callable[[], Any]) -> Any:
    """Loads a stage's model. Raises ModelError if this fails, so that no video is blamed."""
    try:
        return load()
    except (PseudoLabelError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{stage}: its model does not load ({type(error).__name__}: {error}); expected one that"
            " works on this machine; see `pseudolabels doctor`"
        ) from error
