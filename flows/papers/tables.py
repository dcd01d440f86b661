"""The tables: what each asks, its rows, and what the paper found.

Published figures are J&F in percent where no other metric is named. A row without one stands in the
paper with a figure that is not at hand, or is our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.papers.figures import HOURS
from flows.papers.rows import FEW, Row

Published = Mapping[str, Mapping[str, float]]

SIMRVOS: Mapping[str, Any] = {"model": "simrvos"}
REFERFORMER: Mapping[str, Any] = {"model": "referformer"}
GROUNDED: Mapping[str, Any] = {"model": "grounded"}
TEXT: Mapping[str, Any] = {"model": "wsrvos", "supervision": "text"}
GROUNDER: Mapping[str, Any] = {"model": "groprompt", "supervision": "boxes"}
NO_CONTRAST: Mapping[str, Any] = {"groprompt.text_weight": 0.0, "groprompt.modal_weight": 0.0}


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        source: the paper and its table.
        asks: the question.
        rows: by name.
        metrics: columns, of ``flows.papers.figures``.
    """

    source: str
    asks: str
    rows: Mapping[str, Row]
    metrics: tuple[str, ...] = ("J&F",)

    def published_on(self, data: str) -> str:
        """Returns the data set whose published figures stand beside those of ``data``: itself, or
        else the first one that the paper has figures of; empty if there is none."""
        names = [name for row in self.rows.values() for name in row.published]
        return data if data in names else next(iter(names), "")


def _weak(base: Mapping[str, Any], supervision: str, **own: Any) -> dict[str, Any]:
    """The fields of a student that learns from a data set's annotation.

    Args:
        own: settings of the section of its model.
    """
    model = base["model"]
    boxes = {f"{model}.mil": True} if supervision in ("boxes", "first_mask_boxes") else {}
    return {
        **base,
        "supervision": supervision,
        "frame_weights": True,
        f"{model}.lgcfs": False,
        f"{model}.blcl": False,
        f"{model}.mil": False,
        **boxes,
        **{f"{model}.{name}": value for name, value in own.items()},
    }


def _budget(base: Mapping[str, Any], **budget: Any) -> dict[str, Any]:
    """The fields of a student with LGCFS and BLCL that learns from a budget."""
    whole = _weak(base, "budget", lgcfs=True, blcl=True, mil=True)
    return {**whole, **{f"budget.{name}": value for name, value in budget.items()}}


def _refytvos(value: float) -> Published:
    return {"refytvos": {"J&F": value}}


BOTH = {"lgcfs": True, "blcl": True}
WEAK = _weak(SIMRVOS, "first_mask_boxes")
BOXES = _weak(SIMRVOS, "boxes")
FLOW: Mapping[str, Any] = {
    **SIMRVOS,
    "supervision": "flow",
    "expressions_per_clip": 8,
    "clips_per_step": 2,
    "learning_rate": 3e-4,
}


def _annotation(base: Mapping[str, Any], published: Mapping[str, Published]) -> dict[str, Row]:
    """Rows of the kinds of annotation, and of what LGCFS and BLCL add to the weak one."""
    fields = {
        "full masks": _weak(base, "masks"),
        "boxes": _weak(base, "boxes"),
        "first mask": _weak(base, "first_mask"),
        "first mask + boxes": _weak(base, "first_mask_boxes"),
        "first mask + boxes, LGCFS": _weak(base, "first_mask_boxes", lgcfs=True),
        "first mask + boxes, BLCL": _weak(base, "first_mask_boxes", blcl=True),
        "first mask + boxes, LGCFS, BLCL": _weak(base, "first_mask_boxes", **BOTH),
    }
    return {name: Row(row, published=published.get(name, {})) for name, row in fields.items()}


def _slvp() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for name, fusion in (
        ("both ways", {**SIMRVOS, "simrvos.fusion": "both"}),
        ("vision as query", {**SIMRVOS, "simrvos.fusion": "vision"}),
        ("language as query", {**SIMRVOS, "simrvos.fusion": "language"}),
    ):
        flow, few = {**FLOW, **fusion}, {**fusion, "supervision": "pseudo_masks"}
        rows |= {
            f"flow alone, {name}": Row(fusion, trained=False, before=flow),
            f"masks of {FEW} videos, {name}": Row(few, "few"),
            f"flow, then masks of {FEW} videos, {name}": Row(few, "few", before=flow),
            f"full masks, {name}": Row({**fusion, "supervision": "masks"}),
            f"flow, then full masks, {name}": Row({**fusion, "supervision": "masks"}, before=flow),
        }
    return rows


TABLES: Mapping[str, PaperTable] = {
    "labels": PaperTable(
        "our own",
        "What does the student `grounded` learn from our masks, and what from a baseline's?",
        {
            "full masks": Row({**GROUNDED, "supervision": "masks"}),
            "pseudo-masks": Row(GROUNDED),
            "the plain baseline's masks": Row(GROUNDED, "baseline"),
            "pseudo-masks, every known frame alike": Row({**GROUNDED, "frame_weights": False}),
            "pseudo-masks without ranking": Row(GROUNDED, "unranked"),
        },
    ),
    "labels-simrvos": PaperTable(
        "our own",
        "The same for SimRVOS, which has to find objects by itself.",
        {
            "full masks": Row({**SIMRVOS, "supervision": "masks"}),
            "pseudo-masks": Row({**SIMRVOS, "supervision": "pseudo_masks"}),
            "the plain baseline's masks": Row(
                {**SIMRVOS, "supervision": "pseudo_masks"}, "baseline"
            ),
            "pseudo-masks, every known frame alike": Row(
                {**SIMRVOS, "supervision": "pseudo_masks", "frame_weights": False}
            ),
            "pseudo-masks without ranking": Row(
                {**SIMRVOS, "supervision": "pseudo_masks"}, "unranked"
            ),
        },
    ),
    "simrvos-annotation": PaperTable(
        "SimRVOS, Tables I to III",
        "How far do weaker kinds of annotation carry, and what do LGCFS and BLCL add?",
        _annotation(
            SIMRVOS,
            {
                "full masks": _refytvos(44.7),
                "boxes": _refytvos(37.8),
                "first mask": _refytvos(40.9),
                "first mask + boxes": {"refytvos": {"J&F": 42.7}, "refdavis": {"J&F": 43.5}},
                "first mask + boxes, LGCFS": {
                    "refytvos": {"J&F": 45.7},
                    "refdavis": {"J&F": 46.3},
                },
                "first mask + boxes, LGCFS, BLCL": {
                    "refytvos": {"J&F": 46.6},
                    "refdavis": {"J&F": 47.3},
                },
            },
        ),
        ("J&F", "J", "F", "overall IoU", "mean IoU", HOURS),
    ),
    "simrvos-two-steps": PaperTable(
        "SimRVOS, Table IV",
        "End to end from weak annotation, or first labels and then a student of them?",
        {
            "end to end": Row(_weak(SIMRVOS, "first_mask_boxes", **BOTH)),
            "two steps": Row({**SIMRVOS, "supervision": "pseudo_masks"}, "student", teacher=WEAK),
        },
    ),
    "simrvos-lgcfs": PaperTable(
        "SimRVOS, Table V (train_val)",
        "Which frames does cross-frame segmentation need?",
        {
            "without LGCFS": Row(WEAK, published=_refytvos(61.8)),
            "frames with a mask alone": Row(
                _weak(SIMRVOS, "first_mask_boxes", lgcfs=True, lgcfs_boxes="none"),
                published=_refytvos(63.0),
            ),
            "frames with boxes averaged": Row(
                _weak(SIMRVOS, "first_mask_boxes", lgcfs=True, lgcfs_boxes="mean"),
                published=_refytvos(63.4),
            ),
            "frames with boxes summed": Row(
                _weak(SIMRVOS, "first_mask_boxes", lgcfs=True, lgcfs_boxes="sum"),
                published=_refytvos(63.9),
            ),
        },
    ),
    "simrvos-blcl": PaperTable(
        "SimRVOS, Table VI (train_val)",
        "What does each part of bi-level contrastive learning add?",
        {
            "without BLCL": Row(
                _weak(SIMRVOS, "first_mask_boxes", lgcfs=True), published=_refytvos(63.9)
            ),
            "language-vision alone": Row(
                _weak(SIMRVOS, "first_mask_boxes", **BOTH, blcl_levels="language_vision")
            ),
            "consistency alone": Row(
                _weak(SIMRVOS, "first_mask_boxes", **BOTH, blcl_levels="consistency")
            ),
            "without pseudo-masks": Row(
                _weak(SIMRVOS, "first_mask_boxes", **BOTH, blcl_predictions=False)
            ),
            "BLCL": Row(_weak(SIMRVOS, "first_mask_boxes", **BOTH), published=_refytvos(65.1)),
        },
    ),
    "simrvos-referformer": PaperTable(
        "SimRVOS, Tables I, VII and XII",
        "Do LGCFS and BLCL help another student, ReferFormer?",
        _annotation(
            REFERFORMER,
            {
                "first mask + boxes": _refytvos(48.9),
                "first mask + boxes, LGCFS, BLCL": _refytvos(50.1),
            },
        )
        | {
            "first mask + boxes, two steps": Row(
                {**REFERFORMER, "supervision": "pseudo_masks"},
                "student",
                teacher=_weak(REFERFORMER, "first_mask_boxes"),
                published=_refytvos(49.0),
            )
        },
        ("J&F", HOURS),
    ),
    "simrvos-random-mask": PaperTable(
        "SimRVOS, Table VIII",
        "Must it be the first frame that has the mask?",
        {
            "the first frame's mask": Row(_budget(SIMRVOS), published=_refytvos(46.6)),
            "a random frame's mask": Row(
                _budget(SIMRVOS, mask_choice="random"), published=_refytvos(46.5)
            ),
        },
        ("J&F", HOURS),
    ),
    "simrvos-budgets": PaperTable(
        "SimRVOS, its further budgets; points and weights are our own",
        "What does more or less annotation buy?",
        {
            "1 mask, boxes": Row(_budget(SIMRVOS)),
            "2 masks, boxes": Row(_budget(SIMRVOS, mask_frames=2, mask_choice="even")),
            "3 masks, boxes": Row(_budget(SIMRVOS, mask_frames=3, mask_choice="even")),
            "1 mask, boxes on every 2nd frame": Row(_budget(SIMRVOS, boxes_every=2)),
            "1 mask, boxes on every 4th frame": Row(_budget(SIMRVOS, boxes_every=4)),
            "1 mask, points": Row(_budget(SIMRVOS, boxes_every=0, points_every=1)),
            "1 mask, boxes on every 4th frame, points on the others": Row(
                _budget(SIMRVOS, boxes_every=4, points_every=1)
            ),
        },
        ("J&F", HOURS),
    ),
    "budgets-by-weight": PaperTable(
        "our own",
        "One mask a target beside the run's masks: of which frame?",
        {
            "no mask": Row({**SIMRVOS, "supervision": "pseudo_masks"}),
            "the first frame's": Row(_budget(SIMRVOS, boxes_every=0, others="pseudo_masks"), "run"),
            "a random frame's": Row(
                _budget(SIMRVOS, boxes_every=0, others="pseudo_masks", mask_choice="random")
            ),
            "of the frame of least weight": Row(
                _budget(SIMRVOS, boxes_every=0, others="pseudo_masks", mask_choice="weight")
            ),
        },
        ("J&F", HOURS),
    ),
    "groprompt": PaperTable(
        "GroPrompt, its main tables, Tables 5 and 6",
        "What do boxes make of the run's grounder, and what does each loss add?",
        {
            "the grounder as it is": Row(
                GROUNDER,
                trained=False,
                published={"refdavis": {"J&F": 65.2, "box IoU": 69.9}},
            ),
            "L_box": Row(
                {**GROUNDER, **NO_CONTRAST, "groprompt.score_weight": 0.0},
                published={"refdavis": {"J&F": 69.8, "box IoU": 73.2}},
            ),
            "L_box and the contrasts": Row(
                {**GROUNDER, "groprompt.score_weight": 0.0},
                published={
                    "refytvos": {"J&F": 65.5},
                    "refdavis": {"J&F": 70.6, "box IoU": 74.4},
                    "a2d": {"mean IoU": 71.3, "overall IoU": 77.3},
                    "jhmdb": {"mean IoU": 72.4, "overall IoU": 73.3},
                },
            ),
            "L_box and L_score (ours)": Row(
                {**GROUNDER, **NO_CONTRAST, "groprompt.score_weight": 1.0}
            ),
            "L_box, L_score and the contrasts (ours)": Row(
                {**GROUNDER, "groprompt.score_weight": 1.0}
            ),
        },
        ("J&F", "overall IoU", "mean IoU", "box IoU", "million parameters"),
    ),
    "wsrvos": PaperTable(
        "WSRVOS, its main tables and its ablations",
        "What do sentences alone teach, and what is each part worth?",
        {
            "text alone": Row({**TEXT, "wsrvos.targets": "own"}),
            "without selection": Row({**TEXT, "wsrvos.selection": False}),
            "without classification": Row({**TEXT, "wsrvos.classification": False}),
            "without fusion": Row({**TEXT, "wsrvos.fusion": False}),
            "without ranking": Row({**TEXT, "wsrvos.ranking": False}),
            "without refinement (ours)": Row({**TEXT, "wsrvos.refinement": False}),
            "text and pseudo-masks (ours)": Row(
                {"model": "wsrvos", "supervision": "pseudo_masks", "wsrvos.targets": "given"}
            ),
        },
        ("J&F", "overall IoU", "mean IoU"),
    ),
    "slvp": PaperTable(
        "SLVP",
        "Does optical flow before masks help, and which of the modalities should ask?",
        _slvp(),
    ),
}
