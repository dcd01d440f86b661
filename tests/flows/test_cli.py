import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli
from flows.doctor import PUBLISHED, examine
from pipeline.config import load_config
from tests.flows.conftest import Site

ROOT = Path(__file__).resolve().parents[2]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["pseudolabels", *arguments])
    try:
        cli.main()
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
        (("run", "fuse.threshold=2"), 2, "fuse.threshold"),
        (("run", "fuse.treshold=0.5"), 2, "fuse.treshold"),
        (("run", "nonsense"), 2, "section.key=value"),
        (("status", "--dataset", "refytvos", "--root", "missing"), 1, "missing"),
        (("report", "--dataset", "refytvos", "--root", "missing"), 1, "missing"),
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


def test_a_failed_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, shown = call(monkeypatch, capsys, "run", "--dataset", "refytvos", "--root", "my data")
    assert "go on with: pseudolabels run --dataset refytvos --root 'my data'" in shown


def test_options_win_over_the_file_and_overrides_over_options(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('out = "a"\nseed = 1\n[dataset]\nsplit = "test"\n')
    config = cli.resolve(file, "refdavis", Path('odd "name"'), None, None, ["seed=3"], seed=2)
    assert str(config.out) == "a"
    assert config.seed == 3
    assert config.dataset.split == "test"
    assert config.dataset.root == Path('odd "name"')


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, flows.cli, flows.run;"
        "print([n for n in ('torch', 'transformers', 'prefect') if n in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert shown.strip() == "[]"


def test_doctor_names_what_is_missing_and_where_it_comes_from(tmp_path: Path) -> None:
    config = load_config(None, [f'out="{tmp_path}"', 'segment.checkpoint="nosuch.pth"'])
    findings = {finding.name: finding for finding in examine(config)}
    assert findings["torch"].well
    assert not findings["nosuch.pth"].well
    assert findings["nosuch.pth"].needed
    for item in PUBLISHED:
        assert item.source in findings[item.file].words or findings[item.file].well
    assert findings["memory"].words.endswith(("GiB", "needed"))


def test_status_of_a_run(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from flows.show import show_plan, show_results

    plan = site.run()
    show_plan(Console(width=100), plan, site.folder)
    show_results(Console(width=100), site.folder)
    shown = capsys.readouterr().out
    assert "augment" in shown
    assert "J&F" in shown
    assert "index.html" in shown
