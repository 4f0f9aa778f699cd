"""Settings: what they are (settings), and how they are read (load). Imports nothing of the package.

`labelpenet/presets/` holds complete files for smaller machines than the paper's.
"""

from labelpenet.config.load import ConfigError, config_from_dict, load_config, presets
from labelpenet.config.settings import (
    BackboneName,
    BoxRule,
    CalibrationConfig,
    Combine,
    Config,
    CrfConfig,
    DetectionConfig,
    GroupScore,
    ModelConfig,
    Optimizer,
    ProposalConfig,
    TrainConfig,
)

__all__ = [
    "BackboneName",
    "BoxRule",
    "CalibrationConfig",
    "Combine",
    "Config",
    "ConfigError",
    "CrfConfig",
    "DetectionConfig",
    "GroupScore",
    "ModelConfig",
    "Optimizer",
    "ProposalConfig",
    "TrainConfig",
    "config_from_dict",
    "load_config",
    "presets",
]
