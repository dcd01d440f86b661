"""``evaluate davis``: semi-supervised, unsupervised, and Ref-DAVIS17's four annotation sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flows.evaluation.result import Result, mean
from flows.evaluation.scores import left_out
from pipeline.davis import (
    ANNOTATION_SETS,
    MAX_PROPOSALS,
    VOID,
    Ids,
    ObjectScore,
    Task,
    evaluated_frames,
    labels_of_scores,
    object_count,
    rows_of_set,
    scores_by_id,
    scores_by_matching,
)
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from storage.datasets import open_dataset
from storage.datasets.base import mask_names
from storage.files.images import image_size, read_mask
from storage.files.listing import spelled
from storage.files.text_files import read_text_file
from storage.predictions import SCORES, PredictionTree
from storage.remote.data_copy import DataCopy, copy_of

_TRUTH = {"semi-supervised": "Annotations", "unsupervised": "Annotations_unsupervised"}


@dataclass
class _Tally:
    """Scores of the objects of all sequences, as they come."""

    objects: dict[str, list[ObjectScore]] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The figures that DAVIS reports: means over the objects of all sequences."""
        scores = [score for found in self.objects.values() for score in found]
        js = [score.j_statistics for score in scores]
        fs = [score.f_statistics for score in scores]
        j, f = mean([item.mean for item in js]), mean([item.mean for item in fs])
        return {
            "J&F": (j + f) / 2,
            "J-Mean": j,
            "J-Recall": mean([item.recall for item in js]),
            "J-Decay": mean([item.decay for item in js]),
            "F-Mean": f,
            "F-Recall": mean([item.recall for item in fs]),
            "F-Decay": mean([item.decay for item in fs]),
        }


def evaluate_davis(predictions: Path, root: Path, task: Task, subset: str = "val") -> Result:
    """A DAVIS result folder, ``<sequence>/<frame>.png`` of index masks, against its ground truth.

    What the official code ends at is named here and counted: a missing, broken or misshapen frame
    as an empty one, ids above the number of objects (semi-supervised) or above 20 (unsupervised) as
    background. A sequence whose ground truth is missing or broken is named and left out.

    Args:
        predictions: a folder or a zip.
        root: of DAVIS: ``ImageSets/2017/<subset>.txt``, ``Annotations/480p`` and, for the
            unsupervised task, ``Annotations_unsupervised/480p``.

    Raises:
        InputError: the list of sequences is missing, or the ground truth of all of them.
    """
    copy = copy_of(root)
    if copy is not None:
        copy.fetch_index()
    sequences = _sequences(root / "ImageSets" / "2017" / f"{subset}.txt")
    tree = PredictionTree(predictions, sequences)
    matched, fixed = _Tally(), _Tally()
    problems: list[str] = []
    for name, frames, truth in _truths(root / _TRUTH[task] / "480p", sequences, problems, copy):
        chosen = evaluated_frames(len(frames), task)
        pred, _ = tree.clip([name], frames[chosen], truth.shape[1:], known=frames)
        _note_surplus(tree, name, pred, object_count(truth), task)
        _score(name, truth, pred, chosen, task, fixed, matched)
    systems = {"fixed ids": fixed.figures()}
    if task == "unsupervised":
        systems = {"matched": matched.figures(), **systems}
    shown = matched if task == "unsupervised" else fixed
    return Result(
        title=f"DAVIS {task}, {subset}",
        systems=systems,
        sequences=[_sequence_row(name, found) for name, found in shown.objects.items()],
        expressions=_object_rows(fixed, matched),
        problems=problems + tree.problems,
        counts={
            "sequences": len(shown.objects),
            "objects": sum(len(found) for found in shown.objects.values()),
        },
    )


def evaluate_refdavis(predictions: Path, root: Path, split: str = "valid") -> Result:
    """Ref-DAVIS17: each annotation set by the unsupervised evaluation, and their mean.

    Args:
        predictions: ``anno_0`` … ``anno_3`` of index masks ``<video>/<frame>.png``, or, in a zip
            too, 8-bit scores ``<video>/<expression>/<frame>.png``, which are merged here; those of
            16 bits in the folder ``Scores`` are taken in their place.
        root: of Ref-DAVIS17, as published or as converted.

    Raises:
        InputError: the data set is missing or broken, or the ground truth of all sequences.
    """
    copy = copy_of(root)
    reader = open_dataset("refdavis", root, split, copy=copy)
    sequences = list(reader.video_ids())
    trees = _trees_of_sets(predictions, sequences)
    folder = root / split / "Annotations"
    if not folder.is_dir():
        folder = root / "DAVIS" / "Annotations_unsupervised" / "480p"
    sets = _sets_of(reader, sequences)
    missing = sorted(set(range(ANNOTATION_SETS)) - set(sets))
    fixed = {number: _Tally() for number in sets}
    matched = {number: _Tally() for number in sets}
    problems: list[str] = []
    for name, frames, truth in _truths(folder, sequences, problems, copy):
        names = [item.key.expression for item in reader.expressions(name)]
        for number in sets:
            tree, merged = trees[number]
            if not merged:
                pred, _ = tree.clip([name], frames, truth.shape[1:])
            else:
                mine = [None if r is None else names[r] for r in rows_of_set(names, number)]
                pred = _merged(tree, name, mine, frames, truth.shape[1:])
            everything = slice(0, len(frames))
            _score(name, truth, pred, everything, "unsupervised", fixed[number], matched[number])
    systems: dict[str, dict[str, float]] = {}
    for title, tallies in (("matched", matched), ("fixed ids", fixed)):
        figures = {f"{title}, set {number}": tally.figures() for number, tally in tallies.items()}
        keys = next(iter(figures.values()))
        systems[f"{title}, mean"] = {
            key: mean([item[key] for item in figures.values()]) for key in keys
        }
        systems |= figures
    problems += [f"annotation set {number} has no expressions; left out" for number in missing]
    problems += [
        problem for tree in dict.fromkeys(tree for tree, _ in trees) for problem in tree.problems
    ]
    return Result(
        title=f"Ref-DAVIS17, {split}, {len(sets)} of the four annotation sets",
        systems=systems,
        sequences=[
            {"annotation_set": number} | _sequence_row(name, found)
            for number, tally in matched.items()
            for name, found in tally.objects.items()
        ],
        expressions=[
            {"annotation_set": n} | row for n in sets for row in _object_rows(fixed[n], matched[n])
        ],
        problems=problems,
        counts={"sequences": len(next(iter(matched.values())).objects) if matched else 0},
    )


def _score(
    name: str,
    truth: Ids,
    pred: Ids,
    chosen: slice,
    task: Task,
    fixed: _Tally,
    matched: _Tally,
) -> None:
    """Scores a sequence into the tallies."""
    objects, target = object_count(truth), truth[chosen]
    if len(target) == 0:
        fixed.objects[name] = []
        return
    # The official code hands void on in the unsupervised task alone.
    void = target == VOID if task == "unsupervised" else None
    fixed.objects[name] = scores_by_id(target, pred, objects, void)
    if task == "unsupervised":
        matched.objects[name] = scores_by_matching(target, pred, objects, void)


def _sequences(path: Path) -> list[str]:
    return read_text_file(path, "the sequences of DAVIS, a line each", "check --root").split()


def _truths(
    folder: Path, sequences: Sequence[str], problems: list[str], copy: DataCopy | None
) -> Iterator[tuple[str, list[str], Ids]]:
    """Name, frame names and index masks [T, H, W] of each sequence that has ground truth.

    Args:
        folder: holds a folder a sequence.
        problems: gets a sentence about each of the others.
        copy: of a data set in an object store.

    Raises:
        InputError: none has.
    """
    errors: list[InputError] = []
    for name in sequences:
        try:
            if copy is not None:
                copy.fetch([folder / name])
            frames, truth = _truth(spelled(folder, name))
        except InputError as error:
            errors.append(error)
            problems.append(left_out(name, error))
        else:
            yield name, frames, truth
    if errors and len(errors) == len(sequences):
        raise errors[0]


def _truth(folder: Path) -> tuple[list[str], Ids]:
    """Frame names and index masks [T, H, W] of a sequence."""
    paths = [folder / name for name in mask_names(folder)]
    size = image_size(paths[0])
    return [path.stem for path in paths], np.stack([read_mask(path, size) for path in paths])


def _note_surplus(tree: PredictionTree, name: str, pred: Ids, objects: int, task: Task) -> None:
    highest = int(pred.max(initial=0))
    most = objects if task == "semi-supervised" else MAX_PROPOSALS
    if highest > most:
        tree.problems.append(
            f"{name}: ids up to {highest}, where {most} is the most; those above count as"
            " background (the official code refuses the sequence)"
        )


def _trees_of_sets(
    predictions: Path, sequences: Sequence[str]
) -> list[tuple[PredictionTree, bool]]:
    """For each annotation set its tree, and whether that is of one mask an expression."""
    folders = [predictions / f"anno_{number}" for number in range(ANNOTATION_SETS)]
    if any(folder.is_dir() for folder in folders):
        return [(PredictionTree(folder, sequences), False) for folder in folders]
    tree = PredictionTree(predictions, sequences)
    if tree.has_scores():
        tree = PredictionTree(predictions, sequences, SCORES)
    return [(tree, True)] * ANNOTATION_SETS


def _sets_of(reader: DatasetReader, sequences: Sequence[str]) -> list[int]:
    """The annotation sets that some expression is of."""
    ids = (item.key.expression for name in sequences for item in reader.expressions(name))
    return sorted({int(expression) % ANNOTATION_SETS for expression in ids})


def _merged(
    tree: PredictionTree,
    video: str,
    expressions: Sequence[str | None],
    frames: Sequence[str],
    size: Any,
) -> Ids:
    """The index masks of one annotation set, out of scores; a frame at a time. An object by rank
    has None for an expression where this set has none of it."""
    there = [name is not None and tree.covers([video, name], frames) for name in expressions]
    result = np.zeros((len(frames), *size), np.uint8)
    for index, frame in enumerate(frames):
        scores = np.zeros((len(expressions), 1, *size))
        for row, name in enumerate(expressions):
            if name is not None and there[row]:
                found = tree.scores([video, name, frame], size)
                scores[row, 0] = 0 if found is None else found
        result[index] = labels_of_scores(scores)[0]
    return result


def _sequence_row(name: str, scores: Sequence[ObjectScore]) -> dict[str, Any]:
    j = mean([score.j_statistics.mean for score in scores])
    f = mean([score.f_statistics.mean for score in scores])
    return {"sequence": name, "objects": len(scores), "J": j, "F": f, "J&F": (j + f) / 2}


def _object_rows(fixed: _Tally, matched: _Tally) -> list[dict[str, Any]]:
    return list(_rows("fixed", fixed)) + list(_rows("matched", matched))


def _rows(ids: str, tally: _Tally) -> Iterator[dict[str, Any]]:
    for name, scores in tally.objects.items():
        for score in scores:
            j, f = score.j_statistics, score.f_statistics
            yield {
                "sequence": name,
                "object": score.object_id,
                "ids": ids,
                "prediction": score.matched,
                "J": j.mean,
                "J-Recall": j.recall,
                "J-Decay": j.decay,
                "F": f.mean,
                "F-Recall": f.recall,
                "F-Decay": f.decay,
                "J&F": (j.mean + f.mean) / 2,
            }
