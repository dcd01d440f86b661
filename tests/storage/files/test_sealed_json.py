from pathlib import Path

import pytest

from storage.files.sealed_json import read_sealed, write_sealed
from tests.fakes.disk import Disk


def test_values_read_back_and_vouch_for_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    values = {"b": [1, 2.5, None], "ä": {"checksum": "inner"}, "z": 'x,\n "checksum": '}
    write_sealed(path, values)
    assert read_sealed(path) == values
    first = path.read_bytes()
    write_sealed(path, dict(reversed(values.items())))
    assert path.read_bytes() == first


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"one": "x", "two": [1, {"three": 3}]})
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(bytes(changed))
            with pytest.raises(ValueError):
                read_sealed(path)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError):
            read_sealed(path)


def test_a_file_without_a_checksum_or_an_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ('{"a": 1}', "[]", "", "nul", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError):
            read_sealed(path)


def test_a_key_named_checksum_is_refused(tmp_path: Path) -> None:
    for values in ({}, {"checksum": 1}):
        with pytest.raises(ValueError, match="expected values"):
            write_sealed(tmp_path / "a.json", values)
    assert not list(tmp_path.iterdir())


def test_it_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "x.json"
    write_sealed(path, {"a": 1})
    assert [step for step, _ in disk.steps] == [
        f"fsync {path.stat().st_size} bytes",
        "rename",
        "fsync",
    ]


def test_keys_are_in_order_and_numbers_are_numbers(tmp_path: Path) -> None:
    write_sealed(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text().startswith('{\n "a": 2,\n "b": 1,')
    with pytest.raises(ValueError, match="JSON"):
        write_sealed(tmp_path / "x.json", {"a": float("nan")})
    assert read_sealed(tmp_path / "x.json") == {"a": 2, "b": 1}
