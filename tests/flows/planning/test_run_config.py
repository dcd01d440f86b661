from pathlib import Path

import pytest

from flows.planning.run_config import run_config_problem, write_run_config
from pipeline.config import dump_config, load_config
from pipeline.errors import LockLostError
from storage.run.lock import HELD, RunLock


def test_a_configuration_reads_back_and_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config = load_config(None, ["rank.threshold=0.6", 'out="a # b"'])
    write_run_config(path, config)
    assert load_config(path) == config
    assert run_config_problem(path) is None
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        assert run_config_problem(path) is not None, (place, content[place - 9 : place + 9])
    path.write_bytes(content[:-1])
    assert run_config_problem(path) is not None


def test_one_that_is_gone_emptied_or_edited_without_its_checksum_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert "missing" in (run_config_problem(path) or "")
    for text in ("", dump_config(load_config(None))):
        path.write_text(text)
        assert "checksum is gone" in (run_config_problem(path) or "")


def test_a_run_that_lost_its_lock_writes_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with RunLock(tmp_path):
        write_run_config(path, load_config(None, ["seed=1"]))
        before = path.read_text()
        (tmp_path / HELD).unlink()
        with pytest.raises(LockLostError):
            write_run_config(path, load_config(None, ["seed=2"]))
    assert path.read_text() == before
