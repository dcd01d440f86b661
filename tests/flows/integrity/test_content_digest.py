import re
from pathlib import Path

import pytest

from flows.integrity.content_digest import content_digest
from pipeline.errors import InputError
from storage.run.ledger import Ledger
from tests.flows.conftest import Site


def test_the_digest_is_of_the_content_alone(site: Site, tmp_path: Path) -> None:
    site.run()
    one = content_digest(site.folder)
    assert re.fullmatch(r"[0-9a-f]{64}", one)
    other = Site(tmp_path / "other")
    # Other shards, another order of work, another place and time.
    other.run("shard_videos=3", 'dataset.only_videos=["clip03", "clip01"]', "report.samples=1")
    assert content_digest(other.folder) != one
    other.run("shard_videos=1", "ground.batch_frames=2")
    assert content_digest(other.folder) == one
    # What has no receipt does not count.
    Ledger(other.folder).withdraw("rank", "00000")
    assert content_digest(other.folder) != one
    other.run("shard_videos=1", "ground.batch_frames=2")
    assert content_digest(other.folder) == one
    site.run("seed=3")
    assert content_digest(site.folder) != one


def test_a_folder_without_a_run_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ledger"):
        content_digest(tmp_path)
