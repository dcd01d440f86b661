"""What ``make setup`` installs, and what the Dockerfile says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTALL = (ROOT / "docs" / "install.md").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def steps(name: str) -> list[str]:
    """The arguments of each instruction of a name."""
    whole = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", whole, re.MULTILINE)


def installed_packages(text: str) -> set[str]:
    """The packages of Debian that a text installs."""
    [line] = re.findall(r"apt-get install ((?:[\w -]|\\\n)+)", text)
    return {word for word in line.replace("\\", " ").split() if not word.startswith("-")}


def test_dockerfile_names_files_that_exist() -> None:
    copied = [name for line in steps("COPY") for name in shlex.split(line)[:-1]]
    assert "." in copied
    kept = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    assert not [name for name in (*copied, *kept) if not (ROOT / name).exists()]
    assert {name for name in copied if name != "."} <= set(kept)


def test_the_image_has_all_parts_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = project["tool"]["setuptools"]
    packages = {name.rstrip("*") for name in tools["packages"]["find"]["include"]}
    modules = {f"{name}.py" for name in tools["py-modules"]}
    others = {project["project"]["readme"], *project["project"]["license-files"], "configs"}
    assert "*" in IGNORED
    assert {f"!{name}" for name in packages | modules | others} <= set(IGNORED)


def test_dockerfile_names_no_host() -> None:
    assert not re.search(r"https?:|--(extra-)?index|\w\.(org|com|io|net|dev)\b", DOCKERFILE)
    assert steps("FROM") == ["${BASE}"]
    assert "/" not in dict(line.split("=") for line in steps("ARG"))["BASE"]


def test_the_image_does_not_run_as_root() -> None:
    assert steps("USER")[-1] not in ("root", "0")
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")
    [entry] = re.findall(r'\["([\w-]+)"\]', "".join(steps("ENTRYPOINT")))
    assert entry in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_caches_and_results_lie_outside_the_image() -> None:
    [volumes] = steps("VOLUME")
    assert set(re.findall(r'"([^"]+)"', volumes)) == {"/cache", steps("WORKDIR")[-1]}
    places = dict(word.split("=") for word in shlex.split(steps("ENV")[0]))
    assert places["PSEUDOLABELS_CACHE"] == places["XDG_CACHE_HOME"] + "/pseudolabels"
    assert places["XDG_CACHE_HOME"] == "/cache"
    [made] = [line for line in steps("RUN") if "install --directory --mode 1777" in line]
    for name in ("HOME", "PREFECT_HOME", "XDG_CACHE_HOME"):
        assert places[name] in made.split(), name


def test_install_document_agrees_with_the_dockerfile() -> None:
    assert installed_packages(INSTALL) == installed_packages(DOCKERFILE) | {"git"}
    arguments = {line.partition("=")[0] for line in steps("ARG")}
    assert set(re.findall(r"--build-arg (\w+)=", INSTALL)) == arguments
    for path in ("/work", "/cache", "/cache/pseudolabels", "/home/pseudolabels/.prefect"):
        assert path in INSTALL and path in DOCKERFILE


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile and the locks beside a uv and a Python that write down what they are told."""
    for name in ("Makefile", "requirements.lock", "requirements-ray.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("pip", "python", "uv"):
        (folder / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> told\ncase "$*" in *" -") cat >> locked;; esac\n'
        )
        (folder / name).chmod(0o755)
    return tmp_path


def setup(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "setup", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def test_setup_installs_the_lock(project: Path) -> None:
    assert setup(project).returncode == 0
    assert (project / "locked").read_text() == (ROOT / "requirements.lock").read_text()
    assert "--torch-backend" not in (project / "told").read_text()
    (project / "told").unlink()
    assert setup(project).returncode == 0
    assert not (project / "told").exists()


def test_setup_for_the_cpu_installs_no_library_of_cuda(project: Path) -> None:
    assert setup(project, "TORCH=cpu").returncode == 0
    locked = (project / "locked").read_text().splitlines()
    left_out = set((ROOT / "requirements.lock").read_text().splitlines()) - set(locked)
    assert {line.split("-")[0].split("=")[0] for line in left_out} == {"nvidia", "cuda", "triton"}
    assert any(line.startswith("torch==") for line in locked)
    assert "--torch-backend cpu" in (project / "told").read_text()


def test_setup_from_wheels_asks_no_index(project: Path) -> None:
    assert setup(project, "WHEELS=wheels").returncode == 0
    installs = [line for line in (project / "told").read_text().splitlines() if " install " in line]
    assert len(installs) == 3
    assert all("--no-index --find-links wheels" in line for line in installs)


@pytest.mark.parametrize("words", [["TORCH=gpu"], ["TORCH=cpu", "WHEELS=wheels"]])
def test_setup_refuses_what_it_cannot_install(project: Path, words: list[str]) -> None:
    done = setup(project, *words)
    assert done.returncode == 2
    assert f"found {words[0]}" in done.stderr
    assert not (project / "told").exists()
