"""Settings of an ICN of a few thousand weights, whose training takes seconds."""

from tiny_cascade import tiny_config

from labelpenet.config import Config, config_from_dict


def icn_config(**icn: object) -> Config:
    """Settings of the tests; `icn` changes some of that section."""
    plain = tiny_config("train.checkpoint_every=1").to_dict()
    small = {
        "classifier_size": 48,
        "classifier_steps": 3,
        "size": 48,
        "channels": 8,
        "network_steps": 3,
        "network_batch": 2,
    }
    plain["icn"] |= small | icn
    return config_from_dict(plain)
