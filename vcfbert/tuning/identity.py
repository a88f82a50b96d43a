"""Which study a trial belongs to, so that figures of different data, code or settings never mix."""

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
from vcfbert.training.data import data_digest
from vcfbert.tuning.space import searched

# The folders and files of ``vcfbert`` whose source a trial's figures depend on.
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
_SHOWN = 8  # hexadecimal digits of each digest in a study's name


@dataclass(frozen=True)
class Identity:
    variant: str
    data: str  # digest of the panel, its split and its genetic map
    code: str  # of the source that a trial runs: finer than a commit, which a changed checkout shares
    settings: str  # of all parameters that are not searched, and of the choices for those that are

    @property
    def name(self) -> str:
        return "-".join([self.variant, *(digest[:_SHOWN] for digest in (self.data, self.code, self.settings))])


def identity(config: Config, variant: str, panels: Sequence[Panel]) -> Identity:
    return Identity(variant, data_digest(panels), code_digest(), settings_digest(config, variant))


@cache
def code_digest() -> str:
    root = Path(vcfbert.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for room in TRIAL_ROOMS for path in [root / f"{room}.py", *(root / room).rglob("*.py")]):
        if path.is_file():
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def settings_digest(config: Config, variant: str) -> str:
    """Applying a study's patch does not change it, so that the study can go on; nor does asking for more trials."""
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
