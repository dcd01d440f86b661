"""Writes the data card of a run: ``report/card.md`` for people, ``report/croissant.json`` for
programs (Croissant 1.0, JSON-LD).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.context import RunContext
from flows.evaluation.metrics_table import FIGURES, figure
from flows.exchange.export import SYSTEM_OF_SOURCE
from flows.finished_results import promises_of
from flows.planning.stages import shard_stages_of
from flows.planning.stand_ins import stand_in_warning
from flows.report.gather import Quality, read_metrics, read_quality
from flows.report.work import Work
from flows.weights.published import PUBLISHED
from pipeline.config import RunConfig, dump_config
from pipeline.errors import CheckpointError
from pipeline.fingerprint import file_digest
from pipeline.text import markdown_escaped
from storage.files.atomic import replace_file
from storage.run.ledger import Ledger
from storage.tables import quality_columns

MOST_LISTED = 20
"""Skipped videos that the card lists."""

_CROISSANT = "http://mlcommons.org/croissant/"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": _CROISSANT,
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "recordSet": "cr:recordSet",
    "field": "cr:field",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "source": "cr:source",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "extract": "cr:extract",
    "column": "cr:column",
    "includes": "cr:includes",
}
_TYPES = {"string": "sc:Text", "int32": "sc:Integer", "int8": "sc:Integer", "double": "sc:Float"}


def write_card(
    context: RunContext, quality: Quality, work: Work, metrics: dict[str, Any], samples: int
) -> None:
    """Writes both files beside the report.

    Args:
        quality: of all frames.
        work: what the receipts say.
        metrics: of ``metrics.json``; empty without ground truth.
        samples: number of samples.
    """
    card, croissant = context.paths.cards
    with replace_file(card, "w") as file:
        file.writelines(f"{line}\n" for line in _lines(context, quality, work, metrics, samples))
    with replace_file(croissant, "w") as file:
        json.dump(_croissant(context, samples), file, indent=2)
        file.write("\n")


def write_export_card(
    context: RunContext, to: str, path: Path, source: str, minimum_j: float | None = None
) -> Path:
    """Writes the card of an export: ``card.md`` in its folder, or ``<file>.card.md`` beside it.

    Args:
        to: its format.
        path: the file or folder that was written.
        source: which masks it holds, as `export --from` names them.
        minimum_j: the J that is promised of them; None for all masks.

    Returns:
        The path of the card.
    """
    card = path / "card.md" if path.is_dir() else path.with_name(f"{path.name}.card.md")
    metrics = read_metrics(context).get(SYSTEM_OF_SOURCE.get(source, "")) or {}
    with replace_file(card, "w") as file:
        lines = _export_lines(context, to, source, metrics, minimum_j)
        file.writelines(f"{line}\n" for line in lines)
    return card


def _export_lines(
    context: RunContext,
    to: str,
    source: str,
    metrics: dict[str, Any],
    minimum_j: float | None,
) -> Iterator[str]:
    config = context.config
    yield f"# Masks of {markdown_escaped(config.dataset.name)}, {config.dataset.split}, as {to}"
    chosen = "" if minimum_j is None else f" --minimum-j {minimum_j:g}"
    yield f"\n{_description(config)} Exported with `--from {source}{chosen}`."
    yield "\n## Models\n"
    yield from _models(context)
    yield "\n## Quality against ground truth, in percent\n"
    if chosen:
        yield "Of all masks of the run, also of those that are not in the export.\n"
    yield from _figures(metrics)
    if source == "masks":
        quality = read_quality(context, [])
        yield "\n## Known failures\n"
        yield from _failures(config, quality, _skipped(context))
    yield f"\n## Configuration\n\n```toml\n{dump_config(config)}```"


def _figures(system: dict[str, Any]) -> Iterator[str]:
    rows = [(label, figure(system, keys)) for label, keys in FIGURES]
    known = [f"- {label}: {value:.1f}" for label, value in rows if value is not None]
    yield from known or ["Not measured: there is no ground truth for these videos."]


def _lines(
    context: RunContext, quality: Quality, work: Work, metrics: dict[str, Any], samples: int
) -> Iterator[str]:
    config = context.config
    yield f"# Pseudo-masks of {markdown_escaped(config.dataset.name)}, {config.dataset.split}"
    yield f"\n{_description(config)}"
    yield "\n## Counts\n"
    yield f"- {samples} samples (an expression of a video each), {quality.frames} frames"
    for status in ("present", "absent", "unknown"):
        yield f"- {quality.statuses[status]} frames {status}"
    mean = quality.histograms[0].mean
    yield f"- mean weight of a frame: {'none' if mean is None else f'{mean:.3f}'}"
    yield f"- {len(context.verdicts)} samples decided by people"
    yield "\n## Models\n"
    yield from _models(context)
    yield "\n## Quality against ground truth, in percent\n"
    yield from _figures(metrics.get("pseudo_masks") or {})
    table, _ = promises_of(context)
    if table is not None:
        kept, level, sure = (table.about[name] for name in ("kept", "level", "confidence"))
        yield f"- {kept:.1%} of the samples are promised J of {level:g}, at {sure:.0%} confidence"
    yield "\n## Known failures\n"
    yield from _failures(config, quality, work.skipped)
    yield f"\n## Configuration\n\n```toml\n{dump_config(config)}```"


def _description(config: RunConfig) -> str:
    return (
        f"Masks made by models from the videos and sentences of {config.dataset.name},"
        f" split {config.dataset.split}, with a weight for each frame. They are no ground truth."
        " The terms of the data set and of the models apply to them."
    )


def _models(context: RunContext) -> Iterator[str]:
    config = context.config
    used = {"segment": config.segment.checkpoint}
    if config.ground.uses_checkpoint:
        used["ground"] = config.ground.checkpoint
    if config.augment.source == "model":
        used["augment"] = config.augment.checkpoint
    if config.track.uses_checkpoint:
        used["track"] = config.track.checkpoint
    if config.judge.source == "model" and config.judge.checkpoint is not None:
        used["judge"] = config.judge.checkpoint
    for stage, name in sorted(used.items()):
        try:
            digest = f"SHA-256 {context.weight_digests().of_checkpoint(name)}"
        except CheckpointError:
            digest = "weights not on this machine"
        yield f"- {stage}: {markdown_escaped(name)}, {digest}, licence: {_licence(name)}"
    if config.augment.source != "model":
        yield f"- augment: {config.augment.source}"
    if config.judge.source in ("endpoint", "stand_in"):
        name = config.judge.endpoint_model or "a rule that stands in for a model"
        yield f"- judge: {config.judge.source}, {markdown_escaped(name)}"


def _licence(name: str) -> str:
    if name.startswith("demo:"):
        return "Apache-2.0, as this project"
    file = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    found = [item.licence for item in PUBLISHED if item.file == file]
    return found[0] if found else "not known here"


def _skipped(context: RunContext) -> list[tuple[str, str, str]]:
    """Returns (video, stage, reason) of the videos that are in no shard's masks."""
    ledger = Ledger(context.paths.folder)
    return sorted(
        (video, stage, reason)
        for stage in shard_stages_of(context.config)
        for receipt in ledger.each(stage)
        for video, reason in receipt.skipped.items()
    )


def _failures(
    config: RunConfig, quality: Quality, skipped: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    if warning := stand_in_warning(config):
        yield f"- {warning}"
    for (status, reason), count in quality.reasons.most_common():
        yield f"- {count} frames {status}: {markdown_escaped(reason)}"
    for video, stage, reason in skipped[:MOST_LISTED]:
        yield f"- video {markdown_escaped(video)} skipped in {stage}: {markdown_escaped(reason)}"
    if len(skipped) > MOST_LISTED:
        yield f"- and {len(skipped) - MOST_LISTED} more skipped videos"
    if not (warning or quality.reasons or skipped):
        yield "- none"


def _croissant(context: RunContext, samples: int) -> dict[str, Any]:
    paths, dataset = context.paths, context.config.dataset
    table = {
        "@type": "cr:FileObject",
        "@id": "quality",
        "name": paths.quality.name,
        "contentUrl": paths.quality.name,
        "encodingFormat": "application/x-parquet",
        "sha256": file_digest(paths.quality) if paths.quality.is_file() else "",
    }
    masks = {
        "@type": "cr:FileSet",
        "@id": "masks",
        "name": paths.masks.name,
        "encodingFormat": "application/octet-stream",
        "includes": f"{paths.masks.name}/**",
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"frames/{name}",
            "name": name,
            "dataType": _TYPES[kind],
            "source": {"fileObject": {"@id": "quality"}, "extract": {"column": name}},
        }
        for name, kind in (quality_columns(paths.quality) if paths.quality.is_file() else ())
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": f"{_CROISSANT}1.0",
        "name": f"pseudo-masks-{dataset.name}-{dataset.split}",
        "description": f"{_description(context.config)} {samples} samples.",
        "distribution": [table, masks],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "frames", "name": "frames", "field": fields}
        ],
    }
