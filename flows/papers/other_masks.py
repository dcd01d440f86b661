"""Masks that are not the run's own, such as those that the plain baseline makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from flows.context import RunContext
from flows.papers.rows import FEW
from flows.planning.released import check_there
from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGE
from pipeline.config import RunConfig
from pipeline.fingerprint import digest
from pipeline.packed_masks import PackedMasks
from pipeline.types import Augmentation, PseudoMask
from stages.baseline import baseline_masks
from stages.fuse import fuse
from stages.rank import rank
from storage.arrays.candidates import read_candidates
from storage.arrays.masks import MaskStore
from storage.files.atomic import fresh_folder
from storage.run.ledger import Ledger
from storage.tables import ground_videos, read_augmentations, read_ground
from storage.track_table import read_tracks


class FirstVideos(MaskStore):
    """The masks of a store's first videos.

    Args:
        path: of the store.
        count: of videos.
    """

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path)
        self._count = count

    def videos(self) -> list[str]:
        return super().videos()[: self._count]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_count": self._count}


def masks_of(config: RunConfig, kind: str, folder: Path) -> MaskStore:
    """Returns the store of a kind of masks, which is written if it is not there yet.

    Args:
        kind: ``run``, ``few``, ``baseline`` or ``unranked``, as in ``Row``.
        folder: for the masks that are made here.
    """
    paths = RunPaths(config.run_folder)
    if kind == "run":
        return MaskStore(paths.masks)
    if kind == "few":
        return FirstVideos(paths.masks, FEW)
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{kind}-{identity_of_masks(config, kind)[:12]}.zarr"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            reader = RunContext(config).reader()
            with fresh_folder(place) as partial:
                store = MaskStore(partial)
                for video_id, texts, found in other_masks(config, kind):
                    store.write_video(reader.video(video_id), texts, found)
    return MaskStore(place)


def identity_of_masks(config: RunConfig, kind: str) -> str:
    """Returns the digest of what masks that are made here follow from."""
    context, ledger = RunContext(config), Ledger(config.run_folder)
    weights = context.weight_digests().of_checkpoint
    made_from = {
        stage: {item.shard: [item.fingerprint, item.product] for item in ledger.each(stage)}
        for stage in ("augment", "ground", "segment")
    }
    how = [STAGE[stage].basis(config, weights) for stage in ("track", "fuse", "rank")]
    return digest({"kind": kind, "how": how, "made_from": made_from})


def other_masks(config: RunConfig, kind: str) -> Iterator[tuple[str, list[str], list[PseudoMask]]]:
    """Yields video, sentences and masks, from the run's stored boxes and candidates."""
    paths, reader = RunPaths(config.run_folder), RunContext(config).reader()
    unranked = config.rank.model_copy(update={"enabled": False})
    for shard in RunContext(config).make_plan(remember=False).shards:
        check_there(paths, [shard.name], "other masks")
        ground = paths.part("ground", shard.name)
        augmentations = read_augmentations(paths.part("augment", shard.name))
        for video_id in ground_videos(ground):
            video, mine = reader.video(video_id), augmentations[video_id]
            texts, boxes = read_ground(ground, video_id)
            candidates = read_candidates(paths.part("segment", shard.name), video_id)
            tracks = read_tracks(paths.part("track", shard.name), video_id)
            scores = [item.scores for item in candidates]
            found = []
            for item in mine:
                if kind == "unranked":
                    fused = fuse(item, texts, boxes, scores, tracks, config.fuse)
                    mask, _ = rank(fused, candidates, video, unranked, "")
                else:
                    plain = baseline_masks(
                        item, texts, boxes, candidates, video.height, video.width
                    )
                    mask = certain(item, *plain)
                found.append(mask)
            yield video_id, [item.original for item in mine], found


def certain(item: Augmentation, mask: NDArray[np.bool_], status: NDArray[np.uint8]) -> PseudoMask:
    """Returns masks that all weigh the same, as those of a baseline that knows no doubt do."""
    return PseudoMask(item.key, PackedMasks.of(mask), np.ones(len(mask), np.float32), status, "")
