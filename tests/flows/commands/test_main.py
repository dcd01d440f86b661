import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.commands import continued, doctor, main
from flows.commands.doctor import examine
from flows.commands.options import resolve_run
from flows.context import RunContext
from flows.planning.run_config import write_run_config
from pipeline.config import load_config
from pipeline.errors import ConfigError, PseudoLabelError
from storage.run.ledger import Ledger
from storage.run.lock import RunLock
from storage.run.owner import Owner
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site

ROOT = Path(__file__).resolve().parents[3]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["pseudolabels", *arguments])
    try:
        main.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, " ".join((shown.out + shown.err).split())


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("run", "--dataset", "nosuch", "--root", "."), 1, "expected one of"),
        (("run", "--dataset", "refytvos"), 2, "--root"),
        (("run", "--dataset", "refytvos", "--root", "missing"), 1, "missing"),
        (("run", "--config", "missing.toml"), 2, "missing.toml"),
        (("run", "rank.threshold=2"), 2, "rank.threshold"),
        (("run", "fuse.treshold=0.5"), 2, "fuse.treshold"),
        (("run", "nonsense"), 2, "section.key=value"),
        (("status", "--dataset", "refytvos", "--root", "missing"), 1, "missing"),
        (("run", "--from-stage", "fus"), 2, "give one of augment"),
        (("run", "--from-stage", "rank", "--to-stage", "fuse"), 2, "comes after"),
        (("run", "--from-stage", "student", "student.enabled=false"), 2, "student.enabled"),
        (("run", "--only-videos", "@missing.txt"), 2, "missing.txt"),
        (("verify", "missing"), 1, "no such folder"),
        (("verify", "."), 1, "no ledger"),
        (("repair", "missing"), 1, "no such folder"),
        (("digest", "missing"), 1, "no such folder"),
        (("status", "missing"), 2, "no config.toml"),
        (("report", "--dataset", "refytvos", "--root", "missing"), 1, "missing"),
        (("report", "missing"), 2, "no config.toml"),
    ],
)
def test_a_wrong_command_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, shown = call(monkeypatch, capsys, *arguments)
    assert found == code
    assert part in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("error", [PseudoLabelError("one shard failed"), KeyboardInterrupt()])
@pytest.mark.parametrize("begun", [False, True])
def test_the_command_to_go_on_with_is_told_once_the_work_has_begun(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    begun: bool,
) -> None:
    def run_all(*_: object, committed: Callable[[], None], **__: object) -> None:
        if begun:
            committed()
        raise error

    monkeypatch.setattr("flows.commands.run.run_all", run_all)
    given = ("run", "--root", "[my] data", "--from-stage", "fuse")
    _, shown = call(monkeypatch, capsys, *given)
    # What was to be done again is undone by then; before that it is still to be asked for.
    whole = "Continue with: pseudolabels run --root '[my] data'"
    if begun:
        assert shown.endswith(whole)
    elif isinstance(error, KeyboardInterrupt):
        assert shown.endswith(f"{whole} --from-stage fuse")
    else:
        assert "Continue with" not in shown


def test_after_a_wrong_path_the_same_command_is_no_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = ("--dataset", "refytvos", "--root", "nowhere/[no] such")
    code, shown = call(monkeypatch, capsys, "run", *place)
    assert (code, "nowhere/[no] such" in shown, "Continue with" in shown) == (1, True, False)


def test_paths_that_look_like_markup_are_printed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "[old] clips", 1)
    place = ("--dataset", "refytvos", "--root", "[old] clips")
    code, shown = call(monkeypatch, capsys, "dataset", "show", *place, "--sheet", "a[/b].png")
    assert (code, "1 videos: a[/b].png" in shown) == (0, True), shown


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("device=gpu", 2, "is not a device"),
        ("device=cuda:99", 2, "not on this machine"),
        ("seed=99999999999999999999", 2, "seed"),
        ("dataset.predict_split=nosuch", 1, "nosuch"),
        ("student.masks=nowhere.zarr", 2, "no masks"),
        ("student.training.validate_every=5", 1, "valid"),
        ("student.channels=20", 2, "multiple of 8"),
    ],
)
def test_settings_that_a_late_stage_would_refuse_are_refused_before_the_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.setattr(
        "flows.orchestration.servers.server.ensure", lambda: pytest.fail("it started")
    )
    data, out = write_dataset(tmp_path / "data", 1), tmp_path / "runs"
    place = ("--dataset", "refytvos", "--root", str(data), "--out", str(out))
    for option in ((), ("--dry-run",)):
        found, shown = call(monkeypatch, capsys, "run", *place, *option, setting)
        assert (found, words in shown) == (code, True), shown
        assert not list(out.rglob("layout.json"))


def test_the_home_folder_is_put_into_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = ("--dataset", "refytvos", "--root=~/data")
    code, shown = call(monkeypatch, capsys, "dataset", "show", *given, "--sheet=~/sheet.png")
    assert code == 0, shown
    assert (tmp_path / "sheet.png").is_file()
    code, shown = call(monkeypatch, capsys, "run", "--dry-run", *given, "out=~/runs")
    assert (code, "augment: 1 of 1 shards" in shown) == (0, True), shown
    assert not (tmp_path / "~").exists()


def test_a_run_is_found_by_its_folder_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1" / "refytvos-train"
    config = load_config(None, ["dataset.name=refytvos", "rank.threshold=0.7"])
    write_run_config(folder / "config.toml", config)
    found = resolve_run([str(folder), "seed=3"], None, None, None, None, None)
    assert (found.run_folder, found.rank.threshold, found.seed) == (folder, 0.7, 3)
    with pytest.raises(ConfigError, match=r"no config\.toml"):
        resolve_run([str(tmp_path / "lr=0.2")], None, None, None, None, None)
    assert resolve_run(["seed=3"], None, None, None, None, None).seed == 3


def test_the_split_that_is_predicted_is_fixed_with_the_plan(tmp_path: Path) -> None:
    site = Site(tmp_path)
    config = site.config("student.enabled=true")

    def planned() -> tuple[str | None, str]:
        context = RunContext(config, fake_parts(site.weights))
        plan = context.make_plan(remember=False)
        return context.config.dataset.predict_split, plan.job("student", "all").fingerprint

    before = planned()
    write_dataset(site.data, 1, "valid")
    after = planned()
    assert (before[0], after[0]) == ("train", "valid")
    # So predictions of the one are never measured on the other.
    assert before[1] != after[1]


def test_options_win_over_the_file_and_overrides_over_options(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('out = "a"\nseed = 1\n[dataset]\nsplit = "test"\n')
    config = main.resolve(file, "refdavis", Path('odd "name"'), None, None, ["seed=3"], seed=2)
    assert str(config.out) == "a"
    assert config.seed == 3
    assert config.dataset.split == "test"
    assert config.dataset.root == Path('odd "name"')


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, flows.commands.main, flows.commands.run;"
        "print([n for n in ('torch', 'transformers', 'prefect') if n in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert shown.strip() == "[]"


def test_doctor_names_what_is_missing_and_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path))
    config = load_config(
        None,
        [
            f'out="{tmp_path}"',
            'segment.checkpoint="nosuch.pth"',
            "ground.text_encoder=published:bert-base-uncased",
            'student.start="gone.safetensors"',
        ],
    )
    findings = {finding.name: finding for finding in examine(config, "FETCH")}
    assert findings["torch"].well
    assert not findings["gone.safetensors"].well
    assert not findings["nosuch.pth"].well
    assert findings["nosuch.pth"].needed
    assert "not published" in findings["nosuch.pth"].words
    assert "huggingface.co/google-bert" in findings["bert-base-uncased"].words
    assert findings["fetch with"].words == "FETCH"
    assert findings["preset"].words.startswith(("demo, for no GPU", "small", "base", "large"))
    assert "knows rendered shapes only" in findings["demo:ground"].words
    assert not {"sam_vit_h_4b8939.pth", "roberta-base", "demo:captioner"} & set(findings)
    assert findings["memory"].words.endswith(("GiB", "needed"))


def test_doctor_names_a_larger_preset_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.common.weights.gpu_memory", lambda: 80 << 30)
    monkeypatch.setattr(doctor, "weights_are_there", lambda config: config.stem == "base")
    [finding] = doctor._preset()
    assert finding.words.startswith("base, for a GPU of 80 GiB; its weights are there")
    assert finding.words.endswith("large fits as well: pseudolabels weights fetch --preset large")


def test_verify_repair_and_digest_of_a_run(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.run()
    folder = str(site.folder)
    code, shown = call(monkeypatch, capsys, "verify", folder)
    assert (code, shown.endswith("All files are as they were written.")) == (0, True)
    _, digest = call(monkeypatch, capsys, "digest", folder)
    assert len(digest) == 64
    (site.folder / "fuse" / "00001.zarr" / "zarr.json").write_text("{}")
    code, shown = call(monkeypatch, capsys, "verify", folder)
    assert code == 1
    assert "fuse/00001.zarr/zarr.json: 2 bytes; expected" in shown
    assert f"pseudolabels repair {folder}" in shown
    code, shown = call(monkeypatch, capsys, "repair", folder)
    assert (code, "to be done again: fuse 00001" in shown) == (0, True)
    code, shown = call(monkeypatch, capsys, "repair", folder)
    assert (code, shown) == (0, "No problems found.")
    site.run()
    assert call(monkeypatch, capsys, "digest", folder) == (0, digest)


@pytest.mark.parametrize(
    "command",
    ["verify", *(pytest.param(name, marks=pytest.mark.slow) for name in ("repair", "report"))],
)
def test_what_another_process_writes_to_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    site.run()
    page = site.folder / "report" / "index.html"
    page.unlink()
    with RunLock(site.folder):
        code, shown = call(monkeypatch, capsys, command, str(site.folder))
    assert (code, f"process {os.getpid()}" in shown) == (1, True), shown
    assert not page.exists()
    assert Ledger(site.folder).receipt("report", "all") is not None


def test_status_by_the_folder_says_what_is_left_and_who_is_at_work(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.run("ground.source=annotation", "segment.checkpoint=demo:segment")
    Ledger(site.folder).withdraw("rank", "00001")
    before = sorted(site.out.rglob("*"))
    with RunLock(site.folder):
        code, shown = call(monkeypatch, capsys, "status", str(site.folder), "fuse.absent_below=0.2")
    assert code == 0
    assert "Running: process " in shown
    assert ", at " in shown
    assert "fuse: 2 of 2 shards, absent_below 0.25 → 0.2" in shown
    assert "rank: 2 of 2 shards: " not in shown
    assert sorted(site.out.rglob("*")) == before


def test_status_marks_the_flow_run_of_a_killed_process(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.run("ground.source=annotation", "segment.checkpoint=demo:segment")
    gone = replace(Owner.here(), process=2**22 + 1)
    (site.folder / ".lock.held").write_text(gone.as_text())
    monkeypatch.setattr("flows.commands.status.mark_crashed", lambda: ["a flow run"])
    _, shown = call(monkeypatch, capsys, "status", str(site.folder))
    assert "was killed" in shown
    assert "Marked as crashed in the Prefect UI: a flow run" in shown
    (site.folder / ".lock.held").unlink()
    assert "crashed" not in call(monkeypatch, capsys, "status", str(site.folder))[1]


@pytest.mark.parametrize("option", [(), ("--dry-run",)])
def test_a_root_without_its_data_set_named_is_left_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    precious = tmp_path / "mevis" / "train" / "frame.jpg"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    code, shown = call(monkeypatch, capsys, "run", "--root", str(tmp_path / "mevis"), *option)
    assert (code, "with --dataset" in shown) == (2, True)
    assert "Continue with" not in shown
    assert precious.read_text() == "precious"


def test_a_dry_run_of_shapes_that_are_not_rendered_renders_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, shown = call(monkeypatch, capsys, "run", "--dry-run")
    assert (code, "24 + 8 videos would be rendered" in shown) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_a_report_by_the_folder_is_written_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.run("ground.source=annotation", "segment.checkpoint=demo:segment")
    page = site.folder / "report" / "index.html"
    page.unlink()
    code, shown = call(monkeypatch, capsys, "report", str(site.folder), "report.samples=1")
    assert (code, "index.html" in shown) == (0, True), shown
    assert page.is_file()


def test_going_on_does_not_start_over(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["pseudolabels", "run", "--from-stage", "fuse", "--split", "train"]
    monkeypatch.setattr(sys, "argv", words)
    assert continued.resume_command() == "pseudolabels run --split train"
    assert continued.resume_command(started=False) == " ".join(words)
    monkeypatch.setattr(sys, "argv", ["/place/flows/__main__.py", "run"])
    assert continued.resume_command() == "python -m flows run"


def test_status_of_a_run(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from flows.commands.terminal import show_plan, show_results

    plan = site.run()
    show_plan(Console(width=100), plan, site.folder)
    show_results(Console(width=100), site.folder)
    shown = capsys.readouterr().out
    assert "augment" in shown
    assert "J&F" in shown
    assert "index.html" in shown
