"""What each kind of supervision teaches a student, and what each part of a student adds.

    .venv/bin/python benchmarks/students.py [--seeds 3] [--table pseudo] [section.key=value ...]

Tables: ``pseudo`` is what the run's masks, their weights and their order are worth to the student
of the configuration; ``simrvos`` is SimRVOS's Tables I, III and IV; ``wsrvos`` text as the only
supervision, each part left out; ``groprompt`` what boxes make of the run's grounder; ``slvp``
optical flow by itself, before boxes and before few masks, with both fusions.

Works on a run whose masks are done (`make pseudolabels` makes one): every student is trained on the
same samples of it and predicts the `valid` split. A seed sets the student's first weights and the
clips it is shown. Mean J&F in percent over the seeds, and their standard deviation; on one device,
the same seeds give the same figures. Students are kept in a file as they end, `--results`, and the
same command goes on from there; one whose row, masks or code's version changed is trained again.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import save

from flows.context import RunContext
from flows.evaluation.scores import evaluate, summarise
from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGE
from flows.training.build import clips_of, student_to_train
from flows.training.predict import How, predict_split
from flows.training.train import identity_of
from flows.training.validation import Validation
from pipeline.config import RunConfig, config_from, load_config
from pipeline.fingerprint import digest
from pipeline.packed_masks import PackedMasks
from pipeline.types import Augmentation, Expression, PseudoMask, Status, VideoRef
from stages.baseline import baseline_masks
from stages.fuse import fuse
from stages.rank import rank
from stages.student.contract import Student
from stages.student.training.fit import fit
from stages.student.training.train import Trainer
from stages.track import associate
from storage.arrays.candidates import read_candidates
from storage.arrays.masks import MaskStore
from storage.files.atomic import fresh_folder, replace_file
from storage.run.ledger import Ledger
from storage.tables import ground_videos, read_augmentations, read_ground

SIMRVOS = {"model": "simrvos"}
BOXES = SIMRVOS | {"supervision": "boxes", "simrvos.mil": True}
WEAK = SIMRVOS | {"supervision": "first_mask_boxes", "simrvos.mil": True}
TEXT = {"model": "wsrvos", "supervision": "text"}
GROUNDER = {"model": "groprompt", "supervision": "boxes"}
FLOW = SIMRVOS | {
    "supervision": "flow",
    "steps": 100,
    "expressions_per_clip": 8,
    "clips_per_step": 2,
    "learning_rate": 3e-4,
}
FEW = 6
"""Videos whose masks teach, of a row that asks what is learnt before them."""
NO_CONTRAST = {"groprompt.text_weight": 0.0, "groprompt.modal_weight": 0.0}


@dataclass(frozen=True)
class Row:
    """One kind of student.

    Attributes:
        student: fields of the configuration's section, ``a.b`` for one of a section within.
        masks: whose pseudo-masks: of the run; the ``baseline``'s, the best box of the sentence in
            every frame; ``unranked``, the best instance of every frame; of the run's first
            ``few`` videos; or of the ``student`` of the same seed that learnt from first mask +
            boxes (SimRVOS's two-step training).
        trained: False takes the student as it starts.
        before: fields of the student of the same seed whose weights it starts from; none for its
            own start.
    """

    student: Mapping[str, Any]
    masks: str = "run"
    trained: bool = True
    before: Mapping[str, Any] | None = None


TABLES: Mapping[str, Mapping[str, Row]] = {
    "pseudo": {
        "full masks": Row({"supervision": "masks"}),
        "pseudo-masks": Row({}),
        "the plain baseline's masks": Row({}, "baseline"),
        "pseudo-masks, every known frame alike": Row({"frame_weights": False}),
        "pseudo-masks without ranking": Row({}, "unranked"),
    },
    "simrvos": {
        "SimRVOS, full masks": Row(SIMRVOS | {"supervision": "masks"}),
        "SimRVOS, pseudo-masks": Row(SIMRVOS),
        "SimRVOS, the plain baseline's masks": Row(SIMRVOS, "baseline"),
        "first mask + boxes": Row(WEAK),
        "first mask": Row(SIMRVOS | {"supervision": "first_mask"}),
        "boxes": Row(BOXES),
        "first mask + boxes, LGCFS": Row(WEAK | {"simrvos.lgcfs": True}),
        "first mask + boxes, BLCL": Row(WEAK | {"simrvos.blcl": True}),
        "first mask + boxes, LGCFS, BLCL": Row(
            WEAK | {"simrvos.lgcfs": True, "simrvos.blcl": True}
        ),
        "first mask + boxes, two steps": Row(SIMRVOS, "student"),
        "pseudo-masks, LGCFS, BLCL": Row(SIMRVOS | {"simrvos.lgcfs": True, "simrvos.blcl": True}),
    },
    "wsrvos": {
        "text alone": Row(TEXT),
        "text and pseudo-masks": Row({"model": "wsrvos", "wsrvos.targets": "given"}),
        "text, without selection": Row(TEXT | {"wsrvos.selection": False}),
        "text, without classification": Row(TEXT | {"wsrvos.classification": False}),
        "text, without fusion": Row(TEXT | {"wsrvos.fusion": False}),
        "text, without ranking": Row(TEXT | {"wsrvos.ranking": False}),
        "text, without refinement": Row(TEXT | {"wsrvos.refinement": False}),
    },
    "groprompt": {
        "the grounder as it is": Row(GROUNDER, trained=False),
        "the grounder taught by boxes, L_box alone": Row(
            GROUNDER | NO_CONTRAST | {"groprompt.score_weight": 0.0}
        ),
        "the grounder taught by boxes, L_box and L_score": Row(GROUNDER | NO_CONTRAST),
        "the grounder taught by boxes": Row(GROUNDER),
        "the grounder taught by pseudo-masks": Row({"model": "groprompt"}),
    },
    "slvp": {
        f"{what}, {name}": row
        for name, fusion in (
            ("both ways", SIMRVOS),
            ("vision as query", SIMRVOS | {"simrvos.fusion": "vision"}),
            ("language as query", SIMRVOS | {"simrvos.fusion": "language"}),
        )
        for what, row in (
            ("flow alone", Row(fusion, trained=False, before=FLOW | fusion)),
            ("boxes", Row(BOXES | fusion)),
            ("flow, then boxes", Row(BOXES | fusion, before=FLOW | fusion)),
            (f"masks of {FEW} videos", Row(fusion, "few")),
            (f"flow, then masks of {FEW} videos", Row(fusion, "few", before=FLOW | fusion)),
        )
    },
}


def student_of(config: RunConfig, row: Row, seed: int) -> RunConfig:
    """The configuration of one student.

    A row of another student than the configuration's starts from that student's defaults.
    """
    values = config.model_dump(mode="json", exclude_none=True)
    if row.student.get("model", config.student.model) != config.student.model:
        values["student"] = {"enabled": config.student.enabled}
    for name, value in row.student.items():
        *sections, field = name.split(".")
        place = values["student"]
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    return config_from({**values, "seed": seed}, "the row")


def started(context: RunContext) -> Student:
    """A student that has learnt nothing yet; it predicts."""
    torch.manual_seed(context.config.seed)
    return student_to_train(context.config, context.device).eval()


def taught(config: RunConfig, masks: MaskStore) -> Student:
    """A student that is trained here; it predicts."""
    context = RunContext(config)
    student, clips = started(context), clips_of(context, masks)
    fit(Trainer(student, clips, config.student, device=context.device), config.student.training)
    return student.eval()


def weights_of(first: RunConfig) -> Path:
    """The file of a student's weights; trained unless that is there."""
    name = f"student-{identity_of(RunContext(first))[:12]}.safetensors"
    place = RunPaths(first.run_folder).folder / "students-bench" / name
    if not place.exists():
        student = taught(first, MaskStore(RunPaths(first.run_folder).masks))
        place.parent.mkdir(exist_ok=True)
        weights = {name: value.contiguous() for name, value in student.state_dict().items()}
        with replace_file(place) as file:
            file.write(save(weights))
    return place


def score(config: RunConfig, student: Student) -> float:
    """J&F in percent on the split ``valid``."""
    context = RunContext(config)
    valid = context.reader("valid")
    return Validation(valid, len(valid.video_ids()), context.device)(student)


def key_of(config: RunConfig, row: Row, seed: int) -> str:
    """Digest of all that the figure of a row and a seed follows from."""

    def student(of: Row) -> str:
        return identity_of(RunContext(student_of(config, of, seed)))

    made = {"baseline", "unranked"}
    return digest(
        {
            "student": student(row),
            "trained": row.trained,
            "before": None if row.before is None else student(Row(row.before)),
            "masks": row.masks,
            "few": FEW if row.masks == "few" else None,
            "teacher": student(Row(WEAK)) if row.masks == "student" else None,
            "made": identity_of_masks(config, row.masks) if row.masks in made else None,
            "evaluate": STAGE["evaluate"].version,
        }
    )


def value_of(config: RunConfig, row: Row, seed: int) -> float:
    """J&F in percent of the student of a row and a seed."""
    mine = student_of(config, row, seed)
    if row.before is not None:
        start = weights_of(student_of(config, Row(row.before), seed))
        mine = student_of(mine, Row({"start": str(start)}), seed)
    if not row.trained:
        return score(mine, started(RunContext(mine)))
    return score(mine, taught(mine, masks_of(config, row.masks, seed)))


# Masks that are not the run's.


class FirstVideos(MaskStore):
    """The masks of a store's first videos.

    Args:
        path: of the store.
        count: of videos.
    """

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path)
        self._count = count

    def videos(self) -> list[str]:
        return super().videos()[: self._count]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_count": self._count}


def masks_of(config: RunConfig, kind: str, seed: int) -> MaskStore:
    """The store of a kind of masks; written beside the run's where it is not there yet."""
    paths = RunPaths(config.run_folder)
    if kind == "run":
        return MaskStore(paths.masks)
    if kind == "few":
        return FirstVideos(paths.masks, FEW)
    folder = paths.folder / "students-bench"
    if kind == "student":
        return labels_of_a_student(student_of(config, Row(WEAK), seed), folder)
    folder.mkdir(exist_ok=True)
    place = folder / f"{kind}-{identity_of_masks(config, kind)[:12]}.zarr"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            reader = RunContext(config).reader()
            with fresh_folder(place) as partial:
                store = MaskStore(partial)
                for video_id, texts, found in other_masks(config, kind):
                    store.write_video(reader.video(video_id), texts, found)
    return MaskStore(place)


def identity_of_masks(config: RunConfig, kind: str) -> str:
    """Digest of what masks that are made here follow from."""
    context, ledger = RunContext(config), Ledger(config.run_folder)
    weights = context.weight_digests().of_checkpoint
    made_from = {
        stage: {item.shard: [item.fingerprint, item.product] for item in ledger.receipts(stage)}
        for stage in ("augment", "ground", "segment")
    }
    how = [STAGE[stage].basis(config, weights) for stage in ("track", "fuse", "rank")]
    return digest({"kind": kind, "how": how, "made_from": made_from})


def labels_of_a_student(first: RunConfig, folder: Path) -> MaskStore:
    """What a student predicts of the samples that it learnt from; trained unless that is there."""
    context = RunContext(first)
    identity = identity_of(context)
    place = folder / f"student-{identity[:12]}.zarr"
    store = MaskStore(place)
    if set(store.videos()) < set(context.reader().video_ids()):
        student = taught(first, MaskStore(context.paths.masks))
        predict_split(context, student, How(first.dataset.split), place, identity)
    return store


def other_masks(config: RunConfig, kind: str) -> Iterator[tuple[str, list[str], list[PseudoMask]]]:
    """Video, sentences and masks, from the run's stored boxes and candidates."""
    paths, reader = RunPaths(config.run_folder), RunContext(config).reader()
    unranked = config.rank.model_copy(update={"enabled": False})
    for shard in RunContext(config).make_plan(remember=False).shards:
        ground = paths.part("ground", shard.name)
        augmentations = read_augmentations(paths.part("augment", shard.name))
        for video_id in ground_videos(ground):
            video, mine = reader.video(video_id), augmentations[video_id]
            texts, boxes = read_ground(ground, video_id)
            candidates = read_candidates(paths.part("segment", shard.name), video_id)
            tracks = associate(len(texts), boxes, candidates, config.track)
            scores = [item.scores for item in candidates]
            found = []
            for item in mine:
                if kind == "unranked":
                    fused = fuse(item, texts, boxes, scores, tracks, config.fuse)
                    mask, _ = rank(fused, candidates, video, unranked, "")
                else:
                    plain = baseline_masks(
                        item, texts, boxes, candidates, video.height, video.width
                    )
                    mask = certain(item, *plain)
                found.append(mask)
            yield video_id, [item.original for item in mine], found


def certain(item: Augmentation, mask: NDArray[np.bool_], status: NDArray[np.uint8]) -> PseudoMask:
    """Masks that all weigh the same, as a baseline that knows no doubt has them."""
    return PseudoMask(item.key, PackedMasks.of(mask), np.ones(len(mask), np.float32), status, "")


# What knows nothing of the sentence.


def blind_guesses(config: RunConfig) -> dict[str, float]:
    """J&F of a box in the middle of the frame, of the share of it that targets have, and of a
    random one of that size."""
    context = RunContext(config)
    reader, rng = context.reader("valid"), np.random.default_rng(0)
    height, width = 0.36, 0.36

    def boxed(place: Callable[[], tuple[float, float]]) -> Any:
        def masks(video: VideoRef, _: Expression) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
            found = np.zeros((len(video), video.height, video.width), bool)
            for frame in found:
                y, x = place()
                top, left = int(y * video.height), int(x * video.width)
                frame[
                    top : top + int(height * video.height), left : left + int(width * video.height)
                ] = True
            return found, np.full(len(video), Status.PRESENT, np.uint8)

        return masks

    guesses = {
        "a box in the middle": boxed(lambda: (0.5 - height / 2, 0.5 - width * 9 / 32)),
        "a random box": boxed(lambda: (rng.random() * (1 - height), rng.random() * (1 - width))),
    }
    scores = {}
    for name, masks in guesses.items():
        found = [one for _, each in evaluate(reader, reader.video_ids(), masks) for one in each]
        figures = summarise(found)
        assert figures is not None, "the split valid has truth"
        scores[name] = float(figures["overall"]["J&F"])
    return scores


# The table.


class Results:
    """J&F by student, in a file that several processes may add to.

    Args:
        path: of the JSON file.
        of: digest of what every student shares; results of another are not taken.
    """

    def __init__(self, path: Path, of: str) -> None:
        self._path, self._of = path, of

    def read(self) -> dict[str, float]:
        if not self._path.exists():
            return {}
        values: dict[str, Any] = json.loads(self._path.read_text())
        return dict(values.get(self._of, {}))

    def add(self, student: str, value: float) -> None:
        with FileLock(f"{self._path}.lock"):
            values = json.loads(self._path.read_text()) if self._path.exists() else {}
            values.setdefault(self._of, {})[student] = value
            with replace_file(self._path, "w") as file:
                json.dump(values, file, indent=2)


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    config: Annotated[Path | None, typer.Option(help="the run's configuration")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="students a row, of the seeds 0, 1, …")] = 3,
    table: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(TABLES)}")] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="these rows alone")] = None,
    results: Annotated[Path | None, typer.Option(help="file that students are kept in")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    resolved = load_config(config, overrides or ())
    folder = resolved.run_folder
    if not MaskStore(RunPaths(folder).masks).videos():
        raise typer.BadParameter(
            f"{folder}: no masks; expected those of a run; make it first with `make pseudolabels`"
        )
    if unknown := set(table or ()) - TABLES.keys():
        raise typer.BadParameter(f"no table {sorted(unknown)}; expected some of {list(TABLES)}")
    wanted = {n: row for t in table or TABLES for n, row in TABLES[t].items()}
    if unknown := set(rows or ()) - wanted.keys():
        raise typer.BadParameter(f"no row {sorted(unknown)}; expected some of {list(wanted)}")
    shared = digest(resolved.model_dump(mode="json"))
    kept = Results(results or folder / "students-bench" / "results.json", shared)
    found: dict[str, list[float]] = {name: [] for name in rows or wanted}
    # Seed by seed, so that what is cut off has all rows of the first seeds.
    for seed in range(seeds):
        for name in found:
            key = key_of(resolved, wanted[name], seed)
            label = f"{name}, seed {seed}"
            student = f"{label}, {key[:16]}"
            if student not in (known := kept.read()):
                start = time.monotonic()
                value = value_of(resolved, wanted[name], seed)
                kept.add(student, value)
                known[student] = value
                typer.echo(f"{label}: {value:.1f}, {time.monotonic() - start:.0f} s", err=True)
            found[name].append(known[student])
    blind = blind_guesses(resolved) if "wsrvos" in (table or TABLES) else {}
    _print(found, blind, as_json)


def _print(found: dict[str, list[float]], blind: dict[str, float], as_json: bool) -> None:
    rows = {
        name: {
            "mean": statistics.fmean(values),
            "spread": statistics.stdev(values) if len(values) > 1 else None,
            "seeds": values,
        }
        for name, values in found.items()
    }
    if as_json:
        typer.echo(json.dumps(rows | {name: {"mean": v} for name, v in blind.items()}, indent=2))
        return
    count = max(len(values) for values in found.values())
    table = Table("student", "J&F", "±", *(f"seed {seed}" for seed in range(count)))
    for name, row in rows.items():
        deviation = "–" if row["spread"] is None else f"{row['spread']:.1f}"
        each = (f"{value:.1f}" for value in found[name])
        table.add_row(name, f"{row['mean']:.1f}", deviation, *each)
    for name, value in blind.items():
        table.add_row(name, f"{value:.1f}", "–")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
