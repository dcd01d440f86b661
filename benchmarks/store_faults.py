"""What a run in an object store loses when it is killed, and what a second writer meets.

    .venv/bin/python -m benchmarks.store_faults [--kills 30] [--json]

A small rendered data set is labelled once in a folder. Then the same run, in an object store like
its data set, is killed at random moments and started again after each; before half of the starts
the local copies are removed, as on another machine. In the end every object is as its receipt says,
and the digest of masks and tables is that of the run in the folder. A second process that starts
the same run is refused. The download of a data set of many files is killed too: after each kill,
every file that is there is whole, and in the end all are. The store is SeaweedFS on this machine,
with its S3 gateway. Ends with 1 where one of this is not so, or where a kill cost more than the
shard in hand.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.data.object_store import BUCKET, environment, put_folder, s3_server
from benchmarks.faults import Receipts, Row, Site, own_prefect, redone, show, undisturbed
from benchmarks.store_clients import write_files
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.orchestration.servers import server
from pipeline.store_urls import local_place
from storage.files.atomic import PARTIAL_SUFFIX
from storage.files.checksums import mark_file, mark_files, walk_files
from storage.remote.objects import Objects
from storage.run.ledger import FAILURE

VIDEOS = 2
SETTINGS = ("ground.source=annotation",)
"""Of a run that takes seconds more than its start, so that kills meet every stage."""

RUN = "shapes-train"

FILES, FILE_BYTES = 1500, 20_000
"""Of the data set whose download is killed."""

DOWNLOAD = """
import sys
from pipeline.store_urls import local_place
from storage.remote.data_copy import copy_of
copy_of(local_place(sys.argv[1])).fetch_index(whole=True)
"""


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


def downloads(site: Site, count: int, seed: int) -> Row:
    """Kills the download of a data set ``count`` times while it is under way, then lets it end."""
    started, rng, url = time.monotonic(), random.Random(seed), f"s3://{BUCKET}/many"
    files = site.folder / "many"
    write_files(files, FILES, FILE_BYTES, seed)
    put_folder(files, url)
    copy, marks = local_place(url), mark_files(files, [files])
    cut = torn = 0
    while cut < count:
        log = copy.with_name(f".{copy.name}.fetched")
        process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, url])
        while not log.exists() and process.poll() is None:
            time.sleep(0.005)
        try:
            process.wait(rng.uniform(0.0, 0.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        here = {item.relative_to(copy).as_posix() for item in walk_files(copy)}
        here = {name for name in here if not name.endswith(PARTIAL_SUFFIX)}
        torn += sum(mark_file(copy / name) != marks[name] for name in here)
        if process.returncode < 0 and len(here) < FILES:
            cut += 1
        if process.returncode == 0:
            shutil.rmtree(copy)
    code = subprocess.run([sys.executable, "-c", DOWNLOAD, url], check=False).returncode
    names = {item.relative_to(copy).as_posix() for item in walk_files(copy)}
    whole = code == 0 and {name: mark_file(copy / name) for name in names & marks.keys()} == marks
    left = len(names - marks.keys())
    outcome = f"{cut} kills, {torn} files half-written, {left} partial files left;"
    outcome += f" in the end {'all' if whole else 'not all'} files are there"
    seconds = time.monotonic() - started
    return Row("kill -9, download of data", outcome, seconds, whole and not torn and not left)


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
            put_folder(site.folder / "data", f"s3://{BUCKET}/data")
            root = f'dataset.root="s3://{BUCKET}/data"'
            stored = replace(site, settings=(*site.settings, root))
            killed = kills(stored, cache, count, seed, seconds, expected)
            return [first, killed, second_writer(stored), downloads(site, count, seed)]


def main(
    kill_count: Annotated[int, typer.Option("--kills", min=0, help="random moments")] = 30,
    seed: Annotated[int, typer.Option(help="of moments")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    show(measure(kill_count, seed), as_json)


if __name__ == "__main__":
    typer.run(main)
