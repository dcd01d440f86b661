"""Stage ``augment``: positives and hard negatives for every expression (WSRVOS, contrastive
referring expression augmentation).

Importing this package imports no model library. Each source imports what it needs when it is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.config import AugmentConfig
from pipeline.errors import ConfigError
from pipeline.ports import Captioner
from pipeline.types import Augmentation, SampleKey

if TYPE_CHECKING:
    import torch


def load_captioner(
    config: AugmentConfig,
    device: torch.device,
    seed: int,
    augmentations: Mapping[SampleKey, Augmentation] | None = None,
) -> Captioner:
    """Returns the captioner that ``config.source`` names.

    Args:
        config: the stage's section.
        device: the device of models; a source without one does not use it.
        seed: random seed, stored with every text.
        augmentations: content of ``config.file``, for the source ``file``.

    Raises:
        CheckpointError: the model's weights are missing, broken or not the ones asked for.
        ConfigError: a setting that the source needs is missing.
    """
    if config.similarity == "encoder":
        from stages.augment.dual_encoder import load_dual_encoder
        from stages.augment.filtered import FilteredCaptioner

        plain = config.model_copy(update={"similarity": "captioner", "minimum_similarity": 0.0})
        captioner = load_captioner(plain, device, seed, augmentations)
        encoder = load_dual_encoder(config, device)
        return FilteredCaptioner(captioner, encoder, config.minimum_similarity)
    if config.source == "lexicon":
        from stages.augment.lexicon import LexiconCaptioner

        return LexiconCaptioner(config, seed)
    if config.source == "endpoint":
        from stages.augment.endpoint import EndpointCaptioner

        return EndpointCaptioner(config, seed)
    if config.source == "none":
        from stages.augment.file import OriginalOnly

        return OriginalOnly(seed)
    if config.source == "file":
        from stages.augment.file import FileCaptioner

        if augmentations is None:
            raise ConfigError("augment.source 'file' needs the content of augment.file")
        return FileCaptioner(augmentations, str(config.file))
    return _load_model_captioner(config, device, seed)


def _load_model_captioner(config: AugmentConfig, device: torch.device, seed: int) -> Captioner:
    from stages.augment.captioner import ModelCaptioner
    from stages.augment.checkpoint import load_model
    from stages.common.checkpoints import check_digest, resolve_checkpoint, weights_digest

    folder = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    model, processor, prompt = load_model(folder, config, device)
    revision = weights_digest(config.checkpoint)[:12]
    return ModelCaptioner(model, processor, prompt, config, config.checkpoint, revision, seed)
