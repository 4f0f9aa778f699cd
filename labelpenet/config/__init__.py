"""Settings: what they are (settings, and its parts), and how they are read (load).

Imports nothing of the rest of the package.

`labelpenet/presets/` holds complete files for smaller machines than the paper's.
"""

from labelpenet.config.calibration import (
    Attention,
    BoxRule,
    CalibrationConfig,
    Combine,
    CrfConfig,
    GroupScore,
)
from labelpenet.config.detection import DetectionConfig
from labelpenet.config.icn import IcnConfig, MatchingConfig, PeakConfig
from labelpenet.config.load import ConfigError, config_from_dict, load_config, override, presets
from labelpenet.config.settings import BackboneName, Config, ModelConfig, ProposalConfig
from labelpenet.config.train import Optimizer, TrainConfig

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
    "override",
    "presets",
]
