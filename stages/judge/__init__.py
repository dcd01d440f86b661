"""Stage ``judge``: a multimodal language model says which of the marked tracks a sentence means.

Importing this package imports no model library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import JudgeConfig
from pipeline.errors import ConfigError
from pipeline.judgements import Judge

if TYPE_CHECKING:
    import torch


def load_judge(config: JudgeConfig, device: torch.device | None, seed: int) -> Judge:
    """Returns the judge that ``config.source`` names.

    Args:
        device: of a model of transformers; the other sources use none.
        seed: stored with every answer; an endpoint gets it.

    Raises:
        CheckpointError: the model's folder is missing, incomplete or not the one asked for.
        EndpointError: no connection can be made.
        ConfigError: no judge is configured.
    """
    if config.source == "stand_in":
        from stages.judge.stand_in import StandIn

        return StandIn(seed)
    if config.source == "endpoint":
        from stages.judge.server import ServedJudge

        return ServedJudge(config, seed)
    if config.source == "model":
        from stages.judge.folder import load_folder_judge

        assert device is not None, "a model needs a device"
        return load_folder_judge(config, device, seed)
    raise ConfigError("judge.source is 'none'; expected 'model', 'endpoint' or 'stand_in'")
