from __future__ import annotations

import pytest

from flows.planning.stand_ins import stand_in_warning
from pipeline.config import load_config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["dataset.name=videos"], "(ground and segment)"),
        (["dataset.name=videos", "ground.source=annotation"], "(segment)"),
        (["dataset.name=videos", "ground.checkpoint=g.pth", "segment.checkpoint=s.pth"], ""),
        (["dataset.name=videos", "ground.source=annotation", "track.source=model"], "and track)"),
        (["dataset.name=shapes", "track.source=model"], ""),
    ],
)
def test_demo_models_are_told_where_they_do_not_belong(settings: list[str], said: str) -> None:
    warning = stand_in_warning(load_config(None, settings))
    assert said in warning
    assert bool(warning) == bool(said)
