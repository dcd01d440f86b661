from pathlib import Path
from typing import Any

from flows.paths import SHARD_STAGES
from flows.run import plan_with
from flows.tasks import do_shard
from flows.workshop import Workshop
from pipeline.config import load_config
from pipeline.errors import TooLargeError
from storage.masks import MaskStore
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import FakeSegmenter, fake_parts


def test_a_video_that_does_not_fit_into_memory_is_set_aside(tmp_path: Path) -> None:
    class Small(FakeSegmenter):
        videos = 0

        def embed(self, images: Any) -> object:
            self.videos += 1
            if self.videos == 1:
                raise TooLargeError("segment.batch_frames", "no memory", "room", "take less")
            return super().embed(images)

    (tmp_path / "weights").write_bytes(b"w")
    data, small = write_dataset(tmp_path / "data", 2), Small()
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    parts = fake_parts(tmp_path / "weights", segmenter=lambda config, device: small)
    shop = Workshop(load_config(None, [*words, "student.enabled=false"]), parts)
    plan = plan_with(shop)
    receipts = [do_shard(shop, plan.job(stage, "00000")) for stage in SHARD_STAGES]
    assert "take less" in receipts[2].set_aside["clip00"]
    assert MaskStore(shop.paths.masks).videos() == ["clip01"]
