"""Configuration: ``params.yaml`` -> frozen dataclasses, validated where they are built."""

from vcfbert.config.loading import PROFILES, build, load, profile, profile_text, with_overrides
from vcfbert.config.sections import (
    Config,
    EncodeConfig,
    EvaluateConfig,
    MaskConfig,
    ModelConfig,
    PrepareConfig,
    PublishConfig,
    RetrievalConfig,
    TrainConfig,
    TuneConfig,
)

__all__ = [
    "PROFILES",
    "Config",
    "EncodeConfig",
    "EvaluateConfig",
    "MaskConfig",
    "ModelConfig",
    "PrepareConfig",
    "PublishConfig",
    "RetrievalConfig",
    "TrainConfig",
    "TuneConfig",
    "build",
    "load",
    "profile",
    "profile_text",
    "with_overrides",
]
