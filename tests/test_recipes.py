"""The files that clusters are started with (docs/cluster.md)."""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIGS = Path(__file__).parents[1] / "configs"


def objects(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CONFIGS / path).read_text()))


def test_the_ray_of_kubernetes_is_that_of_the_lock_file() -> None:
    [job] = objects("kubernetes/rayjob.yaml")
    lock = (CONFIGS.parent / "requirements-ray.lock").read_text()
    assert re.findall(r"^ray==(\S+)", lock, re.MULTILINE) == [
        job["spec"]["rayClusterSpec"]["rayVersion"]
    ]


def test_objects_of_kubernetes_name_each_other() -> None:
    found = {
        (item["kind"], item["metadata"]["name"]): item
        for item in objects("kubernetes/prefect.yaml")
    }
    [job] = objects("kubernetes/rayjob.yaml")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    claim = head["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in found
    worker = found["Deployment", "prefect-worker"]["spec"]["template"]["spec"]
    assert ("ServiceAccount", worker["serviceAccountName"]) in found
    port = found["Service", "prefect-server"]["spec"]["ports"][0]["port"]
    for item in (worker["containers"][0], head["containers"][0]):
        api = {entry["name"]: entry["value"] for entry in item["env"]}["PREFECT_API_URL"]
        assert api == f"http://prefect-server:{port}/api"


def test_compose_waits_for_what_a_service_needs() -> None:
    [whole] = objects("compose/compose.yaml")
    services = whole["services"]
    assert services["server"]["ports"] == ["127.0.0.1:4200:4200"], "the server has no password"
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            assert needed == {"condition": "service_healthy"}
            assert "healthcheck" in services[name]


STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> "$LOG"
ended() { echo "$(basename "$0") ended" >> "$LOG"; exit 143; }
case "$1 $2" in
    "run "* | "server start") trap ended TERM; sleep "$LASTS" & wait $!;;
    "-c "*get_node_ip_address*) echo 10.0.0.7;;
    "status "*) [ -z "${NO_HEAD:-}" ] || { echo "$NO_HEAD"; exit 1; };;
esac
"""


def run_of(tmp_path: Path, script: str, lasts: str, **variables: str) -> subprocess.Popen[bytes]:
    """Starts a batch script with stand-ins of the commands, and of srun."""
    for name in ("pseudolabels", "prefect", "python", "ray", "srun"):
        place = tmp_path / "bin" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(STAND_IN if name != "srun" else "#!/bin/bash\nsleep ${SRUN:-5}\n")
        place.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "BIN": str(tmp_path / "bin"),
        "LOG": str(tmp_path / "log"),
        "LASTS": lasts,
        "SLURM_JOB_ID": "1",
        "SLURM_CPUS_PER_TASK": "2",
        **variables,
    }
    words = ["bash", str(CONFIGS / "slurm" / script), "--dataset", "mevis"]
    with (tmp_path / "errors").open("w") as errors:
        return subprocess.Popen(words, env=environment, stderr=errors)


@pytest.mark.parametrize("task", [3, 4])
def test_tasks_of_an_array_share_the_videos(tmp_path: Path, task: int) -> None:
    (tmp_path / "ids.txt").write_text("".join(f"v{number}\n" for number in range(5)))
    done = run_of(
        tmp_path,
        "array.sbatch",
        "0",
        IDS=str(tmp_path / "ids.txt"),
        OUT=str(tmp_path / "out"),
        SLURM_ARRAY_TASK_ID=str(task),
        SLURM_ARRAY_TASK_MIN="3",
        SLURM_ARRAY_TASK_COUNT="2",
    )
    assert done.wait(20) == 0
    part = tmp_path / "out" / f"part-{task}"
    expected = ["v0", "v2", "v4"] if task == 3 else ["v1", "v3"]
    assert (part / "ids.txt").read_text().split() == expected
    assert (tmp_path / "log").read_text().splitlines() == [
        f"pseudolabels run --out {part} --only-videos @{part}/ids.txt student.enabled=false"
        " --dataset mevis",
        "pseudolabels server stop",
    ]


def test_a_signal_of_slurm_reaches_the_run_and_its_exit_code_is_that_of_the_job(
    tmp_path: Path,
) -> None:
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    job = run_of(tmp_path, "ray.sbatch", "60", SLURM_JOB_NUM_NODES="1", **own)
    log = tmp_path / "log"
    while not (log.exists() and "pseudolabels run" in log.read_text()):
        assert job.poll() is None
        time.sleep(0.02)
    job.terminate()
    assert job.wait(20) == 143
    said = (tmp_path / "log").read_text()
    assert "ray get-auth-token --generate" in said
    assert "prefect server start --host 10.0.0.7 --port 4200" in said
    assert "runner.address=10.0.0.7:6379" in said
    assert said.splitlines()[-1] == "prefect ended"


def test_a_head_that_does_not_start_ends_the_job_with_what_ray_says(tmp_path: Path) -> None:
    own = {"SRUN": "0", "NO_HEAD": "Deadline Exceeded", "SLURM_JOB_NUM_NODES": "1"}
    job = run_of(tmp_path, "ray.sbatch", "60", **own)
    assert job.wait(20) == 1
    said = (tmp_path / "errors").read_text()
    assert "has not started" in said and "10.0.0.7:6379" in said and "Deadline Exceeded" in said
    assert "pseudolabels run" not in (tmp_path / "log").read_text()
