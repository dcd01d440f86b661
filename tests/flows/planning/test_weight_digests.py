import os
from pathlib import Path

from flows.planning.weight_digests import WeightDigests


def test_weights_are_read_once_until_their_file_changes(tmp_path: Path) -> None:
    weights, read = tmp_path / "model.pth", []
    weights.write_bytes(b"one")

    def files(checkpoint: str) -> list[Path]:
        read.append(checkpoint)
        return [weights]

    known = tmp_path / "weights.json"
    first = WeightDigests(known, files).of_checkpoint("x")
    # Bytes that are read again would be told from those remembered.
    assert WeightDigests(known, files).of_checkpoint("x") == first
    times = weights.stat()
    weights.write_bytes(b"two")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = WeightDigests(known, files).of_checkpoint("x")
    assert second != first
    other = tmp_path / "other.pth"
    other.write_bytes(b"six")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(weights)
    assert WeightDigests(known, files).of_checkpoint("x") not in (first, second)
