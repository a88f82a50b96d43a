"""The identity of a study: trials of different data, code or settings never share one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import vcfbert
from vcfbert.artifacts import sha256_json
from vcfbert.config import Config
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import data_digest
from vcfbert.tuning.space import searched

# The folders of ``vcfbert`` on whose source a trial's figures depend.
TRIAL_ROOMS = (
    "bundle",
    "copying",
    "genotypes",
    "imputation",
    "kernels",
    "metrics",
    "model",
    "retrieval",
    "training",
    "tuning",
)
_SOURCE = (".py", ".c", ".h")
_SHOWN = 8  # hexadecimal digits of each digest in a study's name


@dataclass(frozen=True)
class Identity:
    """The variant of a study and the digests of all that its figures depend on."""

    variant: str
    data: str  # digest of the panel, its split and its genetic map
    code: str  # digest of the source that a trial runs; unlike a commit, it changes with every edit
    settings: str  # digest of the fixed parameters and of the choices for the searched ones

    @property
    def name(self) -> str:
        """The study's name: variant and shortened digests."""
        return "-".join([self.variant, *(digest[:_SHOWN] for digest in (self.data, self.code, self.settings))])


def identity(config: Config, variant: str, panels: Sequence[Panel]) -> Identity:
    """The identity of the study that searches parameters of ``variant`` on these panels."""
    return Identity(variant, data_digest(panels), code_digest(), settings_digest(config, variant))


@cache
def code_digest() -> str:
    """sha256 of the source files in TRIAL_ROOMS."""
    root = Path(vcfbert.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for room in TRIAL_ROOMS for path in (root / room).rglob("*.*")):
        if path.suffix in _SOURCE:
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def settings_digest(config: Config, variant: str) -> str:
    """Digest of the parameters, without the searched ones.

    Neither applying a study's patch nor asking for more trials changes it, so the study can continue.
    """
    body = config.as_dict()
    sections = {name: body[name] for name in ("encode", "model", "retrieval", "masks", "train", "tune")}
    sections["evaluate"] = {name: body["evaluate"][name] for name in ("mask_rate", "mask_rare", "min_maf")}
    for path in (*searched(variant, config.tune), "tune.trials", "tune.retries", "tune.heartbeat"):
        place: dict[str, Any] = sections
        *parents, last = path.split(".")
        for parent in parents:
            place = place[parent]
        del place[last]
    return sha256_json(sections)
