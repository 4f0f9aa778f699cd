"""Settings: what they are (settings), and how they are read (load). Imports nothing of the package.

`labelpenet/presets/` holds complete files for smaller machines than the paper's.
"""

from labelpenet.config.icn import IcnConfig, MatchingConfig, PeakConfig
from labelpenet.config.load import ConfigError, config_from_dict, load_config, presets
from labelpenet.config.settings import (
    Attention,
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
    "Attention",
    "BackboneName",
    "BoxRule",
    "CalibrationConfig",
    "Combine",
    "Config",
    "ConfigError",
    "CrfConfig",
    "DetectionConfig",
    "GroupScore",
    "IcnConfig",
    "MatchingConfig",
    "ModelConfig",
    "Optimizer",
    "PeakConfig",
    "ProposalConfig",
    "TrainConfig",
    "config_from_dict",
    "load_config",
    "presets",
]
