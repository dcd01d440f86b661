from pathlib import Path

from storage.run.lock import RunLock
from storage.run.lock_holder import lock_holder


def test_who_holds_a_lock_is_told_without_a_trace(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "missing") is None
    assert lock_holder(tmp_path) is None
    assert not list(tmp_path.iterdir())
    with RunLock(tmp_path):
        assert (lock_holder(tmp_path) or "").startswith("process ")
        (tmp_path / ".lock.owner").unlink()
        assert lock_holder(tmp_path) == "a process that is not known"
    assert lock_holder(tmp_path) is None
    # Asking leaves the lock free.
    with RunLock(tmp_path):
        pass
