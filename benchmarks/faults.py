"""What a run loses when it is killed, when the disk is full, when bytes rot and when Prefect dies.

    .venv/bin/python -m benchmarks.faults [--kills 30] [--json] [SECTION.KEY=VALUE]...

A small rendered data set is labelled once undisturbed. Then the same run, elsewhere, is killed with
its whole process tree at random moments, and started again after each; its Prefect server is
killed, and one of two Ray workers; it is given a disk that is full; and a file of every kind is cut
short, or one bit of it flipped. In the end the digest of masks and tables is that of the
undisturbed run. Ends with 1 where it is not, where a damage goes unseen, or where a kill cost more
than the shard in hand.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.data.object_store import environment
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.repair import repair
from flows.integrity.verify import verify
from flows.orchestration.servers import server
from flows.planning.stages import STAGES
from storage.run.ledger import Ledger
from storage.run.lock import RunLock

VIDEOS = 6
LIMIT_SECONDS = 600.0
"""Of one start of the run; none takes so long unless it hangs."""

FULL_BYTES = 20_000
"""A file may not grow beyond this on the full disk; receipts do not, products do."""

KINDS = {
    "texts": "augment/*.parquet",
    "boxes": "ground/*.parquet",
    "candidates": "segment/*.zarr/*/logits/c/**/*",
    "tracks": "track/*.parquet",
    "hypotheses": "fuse/*.zarr/*/share/c/**/*",
    "judge's answers": "judge/*.parquet",
    "judged hypotheses": "judge/*.zarr/*/share/c/**/*",
    "shard's quality": "rank/*.parquet",
    "masks": "pseudomasks.zarr/*/masks/c/**/*",
    "weights of frames": "pseudomasks.zarr/*/weight/c/**/*",
    "array's document": "pseudomasks.zarr/*/masks/zarr.json",
    "quality": "quality.parquet",
    "receipt": "ledger/segment/*.json",
    "figures": "metrics.json",
    "report": "report/index.html",
}
"""Every kind of file that a run leaves, by where it lies."""


@dataclass
class Row:
    """One fault: what was done, what came of it, and whether that is right."""

    fault: str
    outcome: str
    seconds: float
    well: bool


Receipts = Mapping[tuple[str, str], object]
"""(stage, shard) -> what tells a receipt from an earlier one."""


@dataclass(frozen=True)
class Site:
    """Where the benchmark works; ``data`` is shared by all its runs.

    Attributes:
        videos: that are labelled, a shard each.
        settings: more settings of all runs.
    """

    folder: Path
    videos: int = VIDEOS
    settings: Sequence[str] = ()

    def run_folder(self, name: str) -> Path:
        return self.folder / name / "shapes-train"

    def command(self, out: str) -> list[str]:
        """Returns the run below a folder of the benchmark, or at an address."""
        words = [
            sys.executable,
            "-m",
            "flows.commands.main",
            "run",
            "--out",
            out if "://" in out else str(self.folder / out),
        ]
        words += [f'dataset.root="{self.folder / "data"}"', "shard_videos=1", "device=cpu"]
        words += [f"shapes.train_videos={self.videos}", "shapes.valid_videos=1", "shapes.seed=7"]
        # Every sentence is asked about, by the rule that stands in for a model.
        words += ["judge.source=stand_in", "judge.below=9"]
        return [*words, "student.enabled=false", "report.samples=2", *self.settings]

    def start(
        self, name: str, before: Callable[[], None] | None = None, words: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command(name), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=before,
        )

    def finish(self, name: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
        """Runs to the end; exit code and all that was printed."""
        process = self.start(name, before)
        try:
            shown = _wait(process)
            return process.returncode, shown
        except subprocess.TimeoutExpired:
            kill_tree(process)
            raise


def _wait(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=LIMIT_SECONDS)[0]


def kill_tree(process: subprocess.Popen[str]) -> None:
    """kill -9 of the run and of all that it started, the Prefect server among it."""
    found = server.running()
    for leader in (process.pid, *([found.pid] if found else [])):
        try:
            os.killpg(leader, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()


def receipts(folder: Path) -> Receipts:
    """(stage, shard) -> when its receipt was written."""
    ledger = Ledger(folder)
    return {
        (stage, path.stem): path.stat().st_mtime
        for stage in STAGES
        for path in ledger.receipt_paths(stage)
    }


def undisturbed(site: Site) -> tuple[Row, str, float]:
    """The run that all others are held to: its digest, and its seconds."""
    started = time.monotonic()
    code, shown = site.finish("whole")
    seconds = time.monotonic() - started
    if code:
        raise RuntimeError(f"the undisturbed run failed:\n{shown}")
    value = content_digest(site.run_folder("whole"))
    return Row("none", f"digest {value[:12]}", seconds, True), value, seconds


def kills(site: Site, count: int, seed: int, seconds: float, expected: str) -> Row:
    """Kills the run at random moments until it has met ``count`` of them, then lets it end."""
    rng, started = random.Random(seed), time.monotonic()
    folder = site.run_folder("killed")
    again = most = moments = 0
    while moments < count:
        before = receipts(folder)
        process = site.start("killed")
        try:
            process.wait(rng.uniform(0.05, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            moments += 1
        else:
            process.communicate()
            # It was done: begin anew, so that every kill meets work.
            shutil.rmtree(site.folder / "killed")
            continue
        lost = redone(before, receipts(folder))
        again, most = again + lost, max(most, lost)
    code, shown = site.finish("killed")
    same = code == 0 and content_digest(folder) == expected
    outcome = f"{moments} kills, {again} jobs done again ({most} at most a kill), "
    outcome += "same digest" if same else f"another digest or exit {code}: {shown[-300:]}"
    return Row("kill -9 of the tree", outcome, time.monotonic() - started, same and most <= 1)


def redone(before: Receipts, after: Receipts) -> int:
    """Finished jobs that were done again, or whose receipt is gone."""
    return sum(after.get(job) != written for job, written in before.items())


def server_killed(site: Site, expected: str) -> Row:
    """Kills the Prefect server in the middle of a run."""
    started = time.monotonic()
    process = site.start("unobserved")
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(receipts(site.run_folder("unobserved"))) < VIDEOS:
        if process.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    found = server.running()
    if found is not None:
        os.kill(found.pid, signal.SIGKILL)
    shown = _wait(process)
    same = process.returncode == 0 and content_digest(site.run_folder("unobserved")) == expected
    told = "went away" in shown
    outcome = f"exit {process.returncode}, {'said so' if told else 'said nothing'}, "
    outcome += "same digest" if same else "another digest"
    return Row("Prefect server killed", outcome, time.monotonic() - started, same)


def worker_killed(site: Site, expected: str) -> Row:
    """Kills one of two Ray workers in the middle of a shard."""
    started = time.monotonic()
    if find_spec("prefect_ray") is None:
        return Row("worker killed", "not measured: Ray is not installed", 0.0, True)
    process = site.start("shared", words=("runner.kind=ray", "runner.workers=2"))
    busy: list[int] = []
    while not busy and process.poll() is None and time.monotonic() - started < LIMIT_SECONDS:
        time.sleep(0.05)
        busy = workers_doing("ground")
    for worker in busy[:1]:
        os.kill(worker, signal.SIGKILL)
    shown = _wait(process)
    same = process.returncode == 0 and content_digest(site.run_folder("shared")) == expected
    told = "its worker was lost; another does it" in shown
    outcome = f"exit {process.returncode}, {'said so' if told else 'said nothing'}, "
    outcome += "same digest" if same else f"another digest: {shown[-300:]}"
    return Row("worker killed", outcome, time.monotonic() - started, same and told)


def workers_doing(task: str) -> list[int]:
    """Process ids of the Ray workers that are at work on a task."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if place.read_bytes().startswith(f"ray::{task}".encode()):
                found.append(int(place.parent.name))
    return found


def disk_full(site: Site, expected: str) -> Row:
    """No file may grow: a message, no traceback; with room again the run ends as it should."""
    started = time.monotonic()
    # The server and the log are not what is tested: they run already, without the limit.
    server.ensure()
    code, shown = site.finish("full", _no_room)
    clear = code != 0 and "no space" in " ".join(shown.split()) and "Traceback" not in shown
    later, _ = site.finish("full")
    same = later == 0 and content_digest(site.run_folder("full")) == expected
    outcome = f"exit {code}, {'a clear message' if clear else shown[-300:]}; then "
    outcome += "same digest" if same else f"exit {later}"
    return Row("disk full", outcome, time.monotonic() - started, clear and same)


def _no_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))


def damages(site: Site, seed: int, expected: str) -> Iterator[Row]:
    """Cuts a file of every kind short, then flips one bit in each: verify sees every one of them,
    repair and a run fix them all.
    """
    rng = random.Random(seed)
    folder = site.run_folder("whole")
    for how in (cut, flip):
        started = time.monotonic()
        chosen = {kind: _file(folder, pattern, rng) for kind, pattern in KINDS.items()}
        for path in chosen.values():
            how(path, rng)
        found = [problem.path for problem in verify(folder, Contents())]
        unseen = [kind for kind, path in chosen.items() if not _is_among(path, found)]
        with RunLock(folder):
            undone = repair(folder, Contents()).undone
        code, _ = site.finish("whole")
        left = list(verify(folder, Contents()))
        same = code == 0 and not left and content_digest(folder) == expected
        outcome = f"{len(chosen) - len(unseen)} of {len(chosen)} kinds of files seen"
        outcome += f" (not: {', '.join(unseen)})" if unseen else ""
        outcome += f", {len(undone)} jobs undone, then "
        outcome += "same digest" if same else f"exit {code}, {len(left)} still wrong"
        name = "files cut short" if how is cut else "one bit flipped in each"
        yield Row(name, outcome, time.monotonic() - started, same and not unseen)


def _file(folder: Path, pattern: str, rng: random.Random) -> Path:
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise RuntimeError(f"{folder}: no file {pattern}; expected what a finished run leaves")
    return rng.choice(files)


def _is_among(path: Path, found: list[Path]) -> bool:
    """Whether a file, or a folder that it lies in, was found wrong."""
    return any(place == path or place in path.parents for place in found)


def cut(path: Path, rng: random.Random) -> None:
    """Leaves the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def flip(path: Path, rng: random.Random) -> None:
    """Turns one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@contextmanager
def own_prefect(folder: Path) -> Iterator[None]:
    """A Prefect server of the benchmark alone, which may be killed."""
    with environment({"PREFECT_HOME": str(folder / "prefect")}):
        os.environ.pop("PREFECT_API_URL", None)
        try:
            yield
        finally:
            server.stop()


def measure(
    count: int, seed: int, bytes_too: bool = True, settings: Sequence[str] = ()
) -> list[Row]:
    """All faults, one after the other, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="faults-") as place, own_prefect(Path(place)):
        site = Site(Path(place), settings=tuple(settings))
        first, expected, seconds = undisturbed(site)
        rows = [first, kills(site, count, seed, seconds, expected)]
        rows += [server_killed(site, expected), worker_killed(site, expected)]
        rows.append(disk_full(site, expected))
        if bytes_too:
            rows += damages(site, seed, expected)
        return rows


def main(
    kill_count: Annotated[int, typer.Option("--kills", min=0, help="random moments")] = 30,
    seed: Annotated[int, typer.Option(help="of moments and damages")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
    settings: Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...")] = None,
) -> None:
    show(measure(kill_count, seed, settings=settings or ()), as_json)


def show(rows: Sequence[Row], as_json: bool) -> None:
    """Prints what came of faults. Exits with 1 if something is wrong."""
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        table = Table("fault", "what came of it", "seconds", "")
        for row in rows:
            mark = "ok" if row.well else "WRONG"
            table.add_row(row.fault, row.outcome, f"{row.seconds:.1f}", mark)
        Console().print(table)
    if not all(row.well for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
