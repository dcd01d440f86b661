"""A run from the command line: data, lock, plan, server, flow, results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.commands.dry_run import selection_lines
from flows.commands.preflight import check_before_start
from flows.commands.terminal import show_plan, show_results
from flows.console import say
from flows.context import Parts, Workshop, dataset_root, opened
from flows.integrity.leftovers import partials_of_run
from flows.orchestration.observed import prefect_server
from flows.orchestration.ray_cluster import check_runner
from flows.planning.commit import commit_plan
from flows.planning.plan import Plan, make_plan
from flows.planning.run_paths import ALL, SHARD_STAGES
from flows.planning.stage_selection import Scope
from flows.progress import reporter
from flows.training.build import prediction_split
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, PseudoLabelError
from storage.files.atomic import remove_partials
from storage.run.layout import known_layout
from storage.run.ledger import Ledger
from storage.run.lock import RunLock

EVERYTHING = Scope()


def run_all(
    config: RunConfig,
    console: Console,
    retry_set_aside: bool = False,
    parts: Parts | None = None,
    scope: Scope = EVERYTHING,
    forget_missing: bool = False,
    committed: Callable[[], None] = lambda: None,
) -> Plan:
    """Does all of a run that is not done; returns the plan it had.

    Args:
        config: resolved.
        console: for progress and results.
        retry_set_aside: try videos again that were set aside.
        parts: the stages' ways in; None for the real ones.
        scope: the stages to do, and those to do again.
        forget_missing: remove what was made of videos that the data set has no more.
        committed: told once what is to be done again is undone, and the work begins.

    Raises:
        PseudoLabelError: the run cannot start, or too much of it failed.
    """
    check_runner(config)
    shop = Workshop(config, parts or Parts())
    folder = config.run_folder
    with RunLock(folder, partial(say, console)):
        prepare_dataset(config, console)
        remove_partials(partials_of_run(folder))
        shop.plan = plan_with(shop, retry_set_aside, scope)
        if not shop.plan.videos:
            raise ConfigError(
                f"{dataset_root(config)}: split {config.dataset.split!r} holds no videos; give"
                " another --split or --root"
            )
        if shop.plan.gone and not forget_missing:
            raise ConfigError(_what_is_gone(config, shop.plan))
        check_before_start(shop, shop.plan)
        _warn_of_stand_ins(config, console)
        for line in selection_lines(shop.plan):
            say(console, line)
        commit_plan(shop.config, shop.plan, scope.again)
        committed()
        pending = shop.plan.pending()
        if not pending:
            say(console, f"Everything in {folder} is done.")
        else:
            _run_flow(shop, console)
    show_plan(console, shop.plan if not pending else plan_with(shop), folder)
    show_results(console, folder)
    return shop.plan


def _what_is_gone(config: RunConfig, plan: Plan) -> str:
    first, others = plan.gone[0], len(plan.gone) - 1
    return (
        f"{dataset_root(config)}: split {config.dataset.split!r} has no video {first!r}"
        + f", nor {others} others" * bool(others)
        + f", of which {config.run_folder} holds work; expected every video that was worked on;"
        " check --root and that the data are all there, give another --out, or add"
        " --forget-missing, which removes what was made of them"
    )


def _warn_of_stand_ins(config: RunConfig, console: Console) -> None:
    """Says so where demo models are set on anything but what they were trained on."""
    used = {"ground": config.ground.checkpoint, "segment": config.segment.checkpoint}
    if config.ground.source == "annotation":
        del used["ground"]
    stages = [stage for stage, checkpoint in used.items() if checkpoint.startswith("demo:")]
    if stages and config.dataset.name != "shapes":
        say(
            console,
            f"{' and '.join(stages)}: demo models, trained on rendered shapes alone; they never"
            f" saw a photograph, so expect poor masks of {config.dataset.name}. For published"
            " weights see configs/published.toml and `pseudolabels doctor`.",
            "yellow",
        )


def plan_of(config: RunConfig) -> Plan:
    """What of a run is done and what is not; changes nothing."""
    return plan_with(Workshop(config), remember=False)


def plan_with(
    shop: Workshop,
    retry_set_aside: bool = False,
    scope: Scope = EVERYTHING,
    remember: bool = True,
) -> Plan:
    """The plan of a workshop's run.

    Args:
        scope: the stages to do, and those to do again.
        remember: False writes nothing at all; the digests of weights are kept otherwise.
    """
    shop.config = _with_predict_split(shop)
    folder = shop.config.run_folder
    return make_plan(
        shop.config,
        shop.reader(),
        Ledger(folder),
        shop.weight_digests(remember).of_checkpoint,
        retry_set_aside,
        known_layout(folder, SHARD_STAGES),
        scope.again,
        scope.stages,
    )


def _with_predict_split(shop: Workshop) -> RunConfig:
    """A configuration that names the split that the student predicts. What is predicted must be
    measured on the same split, also once the data set has another."""
    config = shop.config
    if not config.student.enabled or config.dataset.predict_split is not None:
        return config
    dataset = config.dataset.model_copy(update={"predict_split": prediction_split(shop)})
    return config.model_copy(update={"dataset": dataset})


def finish_again(
    config: RunConfig, stage: str, console: Console, parts: Parts | None = None
) -> None:
    """Does one stage of the whole run again, whether or not it is done."""
    from flows.labelling.run_stages import finish_stage

    shop = Workshop(config, parts or Parts())
    with RunLock(config.run_folder):
        shop.plan = plan_with(shop)
        if not any(Ledger(config.run_folder).receipts("rank")):
            raise PseudoLabelError(
                f"{config.run_folder}: no masks yet; expected a run; make it with"
                " `pseudolabels run`"
            )
        complete = all(job.done for name in ("rank", "merge") for job in shop.plan.jobs[name])
        with reporter(console) as progress:
            shop.progress = progress
            fingerprint = shop.plan.job(stage, ALL).fingerprint
            finish_stage(shop, stage, fingerprint if complete else f"partial-{fingerprint}")


def prepare_dataset(config: RunConfig, console: Console) -> None:
    """Renders ``shapes`` where its folder is missing."""
    if config.dataset.name != "shapes":
        dataset_root(config)
        return
    if shapes_to_render(config) is not None:
        shapes, root = config.shapes, dataset_root(config)
        render_shapes(root, shapes.train_videos, shapes.valid_videos, shapes.seed, console)


def shapes_to_render(config: RunConfig) -> str | None:
    """What of the shapes data set is to be rendered, in words; None where nothing is.

    Raises:
        ConfigError: something else is in its folder.
    """
    root = dataset_root(config)
    if config.dataset.name != "shapes" or (root / "meta_expressions").is_dir():
        return None
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError(
            f"{root}: what is in this folder is no shapes data set (no meta_expressions); name the"
            " data set that it holds with --dataset, or give another --root"
        )
    return f"{config.shapes.train_videos} + {config.shapes.valid_videos} videos"


def render_shapes(out: Path, train: int, valid: int, seed: int, console: Console) -> None:
    """Renders the shapes data set into a folder."""
    from storage.datasets.shapes import write_shapes

    with console.status(f"Rendering {train} + {valid} videos of shapes"):
        write_shapes(out, train, valid, seed)
    say(console, f"shapes: {train} videos to train on, {valid} to validate on, in {out}")


def _run_flow(shop: Workshop, console: Console) -> None:
    assert shop.plan is not None, "a run needs a plan"
    plan = shop.plan

    def load_libraries() -> None:
        if any(plan.pending(stage) for stage in ("augment", "ground", "segment")):
            import torch  # noqa: F401

    with prefect_server(console, load_libraries) as api, reporter(console) as progress:
        from flows.orchestration.labelling_flow import run_observed

        with opened(shop):
            shop.progress = progress
            summary = run_observed(shop, api, _name_of(plan))
    for (stage, shard), error in summary.failed.items():
        say(console, f"{stage} {shard}: {error}", "red", label="failed")


def _name_of(plan: Plan) -> str:
    from pipeline.fingerprint import digest

    prints = [job.fingerprint for jobs in plan.jobs.values() for job in jobs]
    return digest(prints)[:12]


__all__ = ["finish_again", "plan_of", "prepare_dataset", "render_shapes", "run_all"]
