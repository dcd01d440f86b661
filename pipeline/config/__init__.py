"""The configuration of a run: one frozen model per stage, read from TOML.

Unknown names are refused. The result of a stage depends on the settings in its section, except for
those in :data:`EXECUTION`, which change only how fast a result is computed.
"""

from __future__ import annotations

from pipeline.config.augment import (
    AugmentConfig,
)
from pipeline.config.dataset import (
    DatasetConfig,
    ShapesConfig,
)
from pipeline.config.ground import (
    GroundConfig,
    MllmConfig,
)
from pipeline.config.judge import (
    JudgeConfig,
)
from pipeline.config.loading import (
    config_from,
    dump_config,
    given,
    load_config,
)
from pipeline.config.masks import (
    CALIBRATED,
    FuseConfig,
    RankConfig,
    SegmentConfig,
    TrackConfig,
)
from pipeline.config.networks import (
    GroPromptConfig,
    GroundedConfig,
    ReferformerConfig,
    SimrvosConfig,
    SlvpConfig,
    WeakConfig,
    WsrvosConfig,
)
from pipeline.config.run import (
    ReportConfig,
    RunConfig,
    RunnerConfig,
)
from pipeline.config.section import (
    EXECUTION,
    MAX_SEED,
    Checkpoint,
    Links,
    Section,
    UsersPath,
)
from pipeline.config.student import (
    AnyStudentConfig,
    GroPromptStudentConfig,
    GroundedStudentConfig,
    ReferformerStudentConfig,
    SimrvosStudentConfig,
    StudentConfig,
    WsrvosStudentConfig,
)
from pipeline.config.training import (
    BOXES,
    FIRST_MASK,
    FIRST_MASK_BOXES,
    BudgetConfig,
    StudentEncodersConfig,
    Supervision,
    TrainingConfig,
    ViewsConfig,
)

__all__ = [
    "BOXES",
    "CALIBRATED",
    "EXECUTION",
    "FIRST_MASK",
    "FIRST_MASK_BOXES",
    "MAX_SEED",
    "AnyStudentConfig",
    "AugmentConfig",
    "BudgetConfig",
    "Checkpoint",
    "DatasetConfig",
    "FuseConfig",
    "GroPromptConfig",
    "GroPromptStudentConfig",
    "GroundConfig",
    "GroundedConfig",
    "GroundedStudentConfig",
    "JudgeConfig",
    "Links",
    "MllmConfig",
    "RankConfig",
    "ReferformerConfig",
    "ReferformerStudentConfig",
    "ReportConfig",
    "RunConfig",
    "RunnerConfig",
    "Section",
    "SegmentConfig",
    "ShapesConfig",
    "SimrvosConfig",
    "SimrvosStudentConfig",
    "SlvpConfig",
    "StudentConfig",
    "StudentEncodersConfig",
    "Supervision",
    "TrackConfig",
    "TrainingConfig",
    "UsersPath",
    "ViewsConfig",
    "WeakConfig",
    "WsrvosConfig",
    "WsrvosStudentConfig",
    "config_from",
    "dump_config",
    "given",
    "load_config",
]
