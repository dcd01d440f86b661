"""What a run in an object store loses when it is killed, and what a second writer meets.

    .venv/bin/python -m benchmarks.store_faults [--kills 30] [--json]

A small rendered data set is labelled once in a folder. Then the same run, in an object store, is
killed at random moments and started again after each; before half of the starts its local copy is
removed, as on another machine. In the end every object is as its receipt says, and the digest of
masks and tables is that of the run in the folder. A second process that starts the same run is
refused. The store is SeaweedFS on this machine, with its S3 gateway. Ends with 1 where one of this
is not so, or where a kill cost more than the shard in hand.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.data.object_store import BUCKET, environment, s3_server
from benchmarks.faults import Receipts, Row, Site, own_prefect, redone, show, undisturbed
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.orchestration.servers import server
from pipeline.store_urls import local_place
from storage.remote.objects import Objects
from storage.run.ledger import FAILURE

VIDEOS = 2
SETTINGS = ("ground.source=annotation",)
"""Of a run that takes seconds more than its start, so that kills meet every stage."""

RUN = "shapes-train"


def kills(site: Site, cache: Path, count: int, seed: int, seconds: float, expected: str) -> Row:
    """Kills a run at random moments until it has met ``count`` of them, then lets it end.

    Args:
        cache: folder of the local copy.
        seconds: that the undisturbed run takes.
        expected: its digest.
    """
    rng, started, out = random.Random(seed), time.monotonic(), f"s3://{BUCKET}/killed"
    objects = Objects(f"{out}/{RUN}")
    again = most = moments = emptied = 0
    while moments < count:
        before = receipts(objects)
        if rng.random() < 0.5:
            shutil.rmtree(cache / "stores", ignore_errors=True)
            emptied += 1
        process = site.start(out)
        try:
            process.wait(rng.uniform(0.05, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            moments += 1
        else:
            process.communicate()
            # It was done: begin anew, so that every kill meets work.
            objects.delete([entry.name for entry in objects.walk()])
            continue
        lost = redone(before, receipts(objects))
        again, most = again + lost, max(most, lost)
    code, shown = site.finish(out)
    shutil.rmtree(cache / "stores")
    folder = local_place(objects.url)
    wrong = [f"{item.path.name}: {item.what}" for item in verify(folder, Contents())]
    same = code == 0 and not wrong and content_digest(folder) == expected
    outcome = f"{moments} kills, {emptied} starts without a local copy, {again} jobs done again"
    outcome += f" ({most} at most a kill), "
    outcome += "same digest" if same else f"another digest, exit {code}, {wrong}: {shown[-300:]}"
    seconds = time.monotonic() - started
    return Row("kill -9, object store", outcome, seconds, same and most <= 1)


def receipts(objects: Objects) -> Receipts:
    """(stage, shard) -> the version of its receipt."""
    found = {}
    for entry in objects.walk("ledger"):
        parts = entry.name.removesuffix(".json").split("/")
        if len(parts) == 3 and not entry.name.endswith(FAILURE):
            found[parts[1], parts[2]] = entry.version
    return found


def second_writer(site: Site) -> Row:
    """Starts a run twice, with a local copy each."""
    started, out = time.monotonic(), f"s3://{BUCKET}/twice"
    first, objects = site.start(out), Objects(f"{out}/{RUN}")
    while not objects.level()[0] and first.poll() is None:
        time.sleep(0.05)
    with environment({"PSEUDOLABELS_CACHE": str(site.folder / "cache of another")}):
        code, shown = site.finish(out)
    told = "another process writes here" in " ".join(shown.split())
    well = code != 0 and told and first.poll() is None
    first.communicate()
    outcome = f"the second: exit {code}, {'said so' if told else shown[-300:]};"
    outcome += f" the first: exit {first.returncode}"
    seconds = time.monotonic() - started
    return Row("second writer to a store", outcome, seconds, well and first.returncode == 0)


def measure(count: int, seed: int) -> list[Row]:
    """All faults, one after the other, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="faults-") as place, own_prefect(Path(place)):
        site, cache = Site(Path(place), VIDEOS, SETTINGS), Path(place) / "cache"
        # A run that is killed finds the Prefect server that the one before has left.
        server.ensure()
        first, expected, seconds = undisturbed(site)
        with (
            s3_server(site.folder / "server") as variables,
            environment({**variables, "PSEUDOLABELS_CACHE": str(cache)}),
        ):
            killed = kills(site, cache, count, seed, seconds, expected)
            return [first, killed, second_writer(site)]


def main(
    kill_count: Annotated[int, typer.Option("--kills", min=0, help="random moments")] = 30,
    seed: Annotated[int, typer.Option(help="of moments")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    show(measure(kill_count, seed), as_json)


if __name__ == "__main__":
    typer.run(main)
