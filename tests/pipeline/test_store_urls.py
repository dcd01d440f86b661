from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import dump_config, load_config
from pipeline.errors import ConfigError
from pipeline.store_urls import local_place, resolved, shown, url_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path))
    return tmp_path / "stores"


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/b c", "gs://b/é", "az://b/%x"])
def test_an_address_stands_for_a_folder_that_tells_it(url: str, cache: Path) -> None:
    place = local_place(url)
    assert place == cache.joinpath(*url.replace("://", "/").split("/"))
    assert url_of(place) == shown(place) == url
    assert url_of(place / "run") == f"{url}/run"
    assert local_place(Path(url)) == local_place(f"{url}/") == place


def test_other_places_are_paths(tmp_path: Path, cache: Path) -> None:
    for text in ("runs", "/data/x y", "C=3"):
        assert local_place(text) == Path(text)
        assert url_of(Path(text)) is None
    assert local_place("file:///data/a%20b") == Path("/data/a b")
    assert url_of(cache) is url_of(cache / "s3") is None
    assert shown(Path("runs")) == "runs"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host/x", "http://; expected a folder, or an address with s3://"),
        ("s3://b/../c", "not the address"),
        ("s3://key:secret@host/c", "not the address"),
        ("s3://b/c?versionId=1", "not the address"),
    ],
)
def test_what_is_no_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, [f'out="{url}"'])


def test_a_configuration_keeps_the_address(cache: Path, tmp_path: Path) -> None:
    config = load_config(None, ['out="s3://bucket/runs"'])
    assert config.run_folder == cache / "s3" / "bucket" / "runs" / "shapes-train"
    assert 'out = "s3://bucket/runs"' in dump_config(config)


def test_runs_and_data_sets_are_at_addresses(cache: Path) -> None:
    joint = '[{name="mevis", root="gs://bucket/mevis"}]'
    config = load_config(None, ['dataset.root="s3://bucket/data"', f"student.joint={joint}"])
    assert config.dataset.root == cache / "s3" / "bucket" / "data"
    assert config.student.joint[0].root == cache / "gs" / "bucket" / "mevis"
    written = dump_config(config)
    assert 'root = "s3://bucket/data"' in written
    assert 'root = "gs://bucket/mevis"' in written
    with pytest.raises(ConfigError, match=r"augment\.file: .*only out and dataset\.root take one"):
        load_config(None, ['augment.file="s3://bucket/texts.json"'])


def test_a_link_to_the_cache_keeps_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "link"))
    place = local_place("s3://bucket/run")
    assert url_of(resolved(place)) == "s3://bucket/run"
    assert resolved(tmp_path / "link") == (tmp_path / "real").resolve()
