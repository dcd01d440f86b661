"""A small data set to break, and ways to work on it that need no Prefect."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.context import RunContext
from flows.labelling.jobs import do_job
from flows.planning.stages import shard_stages_of
from pipeline.config import Links, load_config
from pipeline.errors import InputError, PseudoLabelError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import fake_parts

GOOD, BAD = "clip00", "clip01"
"""The video that stays whole, and the one that is broken."""


class Site:
    """``input`` may be broken in any way; only ``out`` may be written to.

    Attributes:
        random: of this case alone.
        number: of the case within its kind, 0 to 9.
    """

    def __init__(self, folder: Path, kind: str, number: int) -> None:
        self.folder, self.number = folder, number
        self.random = random.Random(f"{kind} {number}")
        self.input, self.out = folder / "input", folder / "out"
        self.input.mkdir()
        (folder / "weights").write_bytes(b"weights")
        # What lies outside: to be neither read into a result nor written to.
        (folder / "secret").mkdir()
        self.before: dict[str, str] = {}

    def seal(self) -> None:
        """Notes all but the output, once the input is as it is to be; the first time counts."""
        self.before = self.before or self.outside()

    def outside(self) -> dict[str, str]:
        """Every file, folder and link beside the output, with what is in it."""
        top, found = self.folder.parent, {}
        for path in sorted(top.rglob("*")):
            if self.out in (path, *path.parents):
                continue
            name = str(path.relative_to(top))
            if path.is_symlink():
                found[name] = f"link to {path.readlink()}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[name] = "folder"
        return found

    def data(self) -> Path:
        """The folder of a whole data set of two videos."""
        return write_dataset(self.input / "data", 2)

    @property
    def index(self) -> Path:
        return self.input / "data" / "meta_expressions" / "train" / "meta_expressions.json"

    def frames(self, video: str = BAD) -> list[Path]:
        return sorted((self.input / "data" / "train" / "JPEGImages" / video).iterdir())

    def change_index(self, change: Callable[[dict[str, Any]], None]) -> None:
        values = json.loads(self.index.read_text())
        change(values["videos"])
        self.index.write_text(json.dumps({"videos": values["videos"]}))

    def pick(self, *values: Any) -> Any:
        """One of the values, another for each case as long as there are some."""
        return values[self.number % len(values)]

    def context(self, *overrides: str) -> RunContext:
        words = ["dataset.name=refytvos", f'dataset.root="{self.input / "data"}"']
        words += [f'out="{self.out}"', "student.enabled=false", "report.width=64", *overrides]
        return RunContext(load_config(None, words), fake_parts(self.folder / "weights"))


def refused(call: Callable[[], object]) -> str:
    """The message of the error of ours that the call must end in."""
    try:
        result = call()
    except PseudoLabelError as error:
        text = str(error)
        assert 10 < len(text) < 4000, text
        return text
    raise AssertionError(f"taken for good: {result!r}"[:500])


def skipped(site: Site, links: Links = "follow") -> dict[str, str]:
    """Reads all that the readers give; what is wrong is found video by video, and the good video
    is as it was.

    Returns:
        Video -> the message of its error; "" -> that of the data set.
    """
    site.seal()
    problems: dict[str, str] = {}
    try:
        reader = open_dataset("refytvos", site.input / "data", "train", links)
        ids = list(reader.video_ids())
    except PseudoLabelError as error:
        return {"": str(error)}
    for video_id in ids:
        try:
            video = reader.video(video_id)
            expressions = reader.expressions(video_id)
            for index in map(FrameIndex, range(len(video))):
                image = reader.frame(video, index)
                assert image.shape == (video.height, video.width, 3)
                for expression in expressions:
                    reader.truth(video, expression, index)
                    reader.boxes(video, expression, index)
        except InputError as error:
            problems[video_id] = str(error)
            continue
        if video_id == GOOD:
            assert [item.text for item in expressions][:1] == ["the red square"]
            assert len(video) == 5
    assert GOOD not in problems, problems
    return problems


def label(site: Site, *last: str) -> dict[str, str]:
    """All stages on the data set with stand-ins for the models; video -> why it was skipped."""
    site.seal()
    context = site.context()
    context.plan = context.make_plan()
    reasons: dict[str, str] = {}
    for shard in context.plan.shards:
        for stage in shard_stages_of(context.config):
            reasons.update(do_job(context.plan.job(stage, shard.name), context).skipped)
    for stage in last:
        do_job(replace(context.the_plan.job(stage, "all"), fingerprint="x"), context)
    return reasons
