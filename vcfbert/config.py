"""Configuration: ``params.yaml`` -> frozen dataclasses, validated where they are built.

One dataclass a section of ``params.yaml``; profiles (``vcfbert/profiles/*.yaml``) are whole files of the same form.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from vcfbert.artifacts import sha256_json
from vcfbert.constants import VARIANTS
from vcfbert.errors import InputError

PROFILES = ("cpu", "gpu", "original")


def _require(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise InputError("params_invalid", f"{name} is {value!r}: {rule}", hint="see `vcfbert config show`")


@dataclass(frozen=True)
class PrepareConfig:
    # VCF, BCF or VCF Zarr of phased reference haplotypes; several, or a name with {chrom}; or a panel store alone.
    panel: str | tuple[str, ...]
    map: str | tuple[str, ...] | None = None  # genetic map, likewise; None = 1 cM/Mb
    region: str | None = None  # CHROM or CHROM:FROM-TO, 1-based and inclusive
    build: str | None = None  # b37 or b38, of chromosome X; None = as its length in the header says
    holdout: float = 0.1  # share of samples held out for validation
    seed: int = 17

    def __post_init__(self) -> None:
        _require(0.0 < self.holdout < 1.0, "prepare.holdout", self.holdout, "must lie between 0 and 1")
        _require(self.seed >= 0, "prepare.seed", self.seed, "must not be negative")
        _require(bool(self.panels), "prepare.panel", self.panel, "must name a panel")

    @property
    def panels(self) -> tuple[str, ...]:
        return _listed(self.panel)

    @property
    def maps(self) -> tuple[str, ...]:
        return _listed(self.map)


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


@dataclass(frozen=True)
class EncodeConfig:
    window: int = 256  # sites the network sees at once, flanks included
    flank: int = 16  # sites a side that neighbouring windows share
    span_cm: float = 0.2  # how far beyond the window typed sites serve as retrieval key, a side
    copy_window: int = 16384  # sites of a window of the copying variant
    copy_span_cm: float = 1.5  # how far beyond it typed sites are copied from, a side

    def __post_init__(self) -> None:
        _require(self.window >= 8, "encode.window", self.window, "must be at least 8 sites")
        _require(0 <= self.flank <= self.window // 4, "encode.flank", self.flank, "must be 0 .. window/4")
        _require(self.copy_window >= 8, "encode.copy_window", self.copy_window, "must be at least 8 sites")
        for name in ("span_cm", "copy_span_cm"):
            _require(getattr(self, name) >= 0, f"encode.{name}", getattr(self, name), "must not be negative")


@dataclass(frozen=True)
class ModelConfig:
    dims: int = 64  # width of embeddings and encoder
    layers: int = 2  # encoder blocks
    heads: int = 4  # attention heads
    mlp_ratio: int = 4  # hidden width of a block's MLP, in dims
    dropout: float = 0.0
    seed: int = 17  # of the initial weights

    def __post_init__(self) -> None:
        _require(self.dims >= 8, "model.dims", self.dims, "must be at least 8")
        _require(
            self.heads >= 1 and self.dims % self.heads == 0,
            "model.heads",
            self.heads,
            f"must divide model.dims ({self.dims})",
        )
        _require(self.layers >= 1, "model.layers", self.layers, "must be at least 1")
        _require(self.mlp_ratio >= 1, "model.mlp_ratio", self.mlp_ratio, "must be at least 1")
        _require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "must lie in [0, 1)")
        _require(self.seed >= 0, "model.seed", self.seed, "must not be negative")


@dataclass(frozen=True)
class RetrievalConfig:
    # Haplotypes retrieved, a variant. 0 = none: V17's or V18's network alone, from the panel's frequencies.
    k: dict[str, int] = field(default_factory=lambda: {"v17": 2, "v18": 64, "v19": 400})
    refresh_every: int = 1  # epochs between refreshes of embeddings and index; 0 = never
    backend: Literal["auto", "faiss", "torch"] = "auto"

    def __post_init__(self) -> None:
        for variant in self.k:
            _require(variant in VARIANTS, "retrieval.k", variant, f"known variants are {', '.join(VARIANTS)}")
        for variant in VARIANTS:
            least = 1 if variant == "v19" else 0  # which copies what it retrieved, and is nothing without
            enough = self.k.get(variant, -1) >= least
            _require(enough, f"retrieval.k.{variant}", self.k.get(variant), f"must be at least {least}")
        _require(self.refresh_every >= 0, "retrieval.refresh_every", self.refresh_every, "must not be negative")


@dataclass(frozen=True)
class MaskConfig:
    start: float = 0.30  # share of sites masked in the first epochs
    end: float = 0.80  # and in the last ones
    step_epochs: int = 2  # epochs between two steps
    rare: float = 0.70  # least share of sites with MAF < 5% masked
    array_share: float = 0.5  # share of (epoch, window) pairs masked as an array would
    array_density: tuple[float, float] = (0.01, 0.20)  # typed density of array-like masks, log-uniform
    typing_error: float = 1e-3  # share of shown alleles that are wrong, for the copying variant
    missing: float = 5e-3  # and of those that are not called

    def __post_init__(self) -> None:
        _require(
            0.0 < self.start <= self.end < 1.0, "masks.start, masks.end", (self.start, self.end), "0 < start <= end < 1"
        )
        _require(self.step_epochs >= 1, "masks.step_epochs", self.step_epochs, "must be at least 1")
        _require(0.0 <= self.rare < 1.0, "masks.rare", self.rare, "must lie in [0, 1)")
        _require(0.0 <= self.array_share <= 1.0, "masks.array_share", self.array_share, "must lie in [0, 1]")
        for name in ("typing_error", "missing"):
            _require(0.0 <= getattr(self, name) < 0.5, f"masks.{name}", getattr(self, name), "must lie in [0, 0.5)")
        low, high = self.array_density
        _require(0.0 < low <= high <= 1.0, "masks.array_density", self.array_density, "0 < low <= high <= 1")


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 6
    batch_size: int = 32  # diploid samples a step
    samples_per_epoch: int = 32  # training samples drawn for each window, each epoch; 0 = all
    accumulate: int = 1  # steps whose gradients are added up before the optimiser moves
    lr: float = 2e-3
    weight_decay: float = 0.01
    copy_lr: float = 0.02  # learning rate of the copying variant, whose few parameters are rates and shares
    copy_steps: int = 10  # batches of an epoch of the copying variant, each of a window drawn at random
    warmup_steps: int = 50  # optimiser steps of linear warm-up, then cosine decay to a tenth
    clip: float = 1.0  # largest gradient norm
    loss: Literal["focal", "cross_entropy"] = "cross_entropy"
    focal_gamma: float = 2.0
    rare_weight: float = 2.0  # loss weight of sites with MAF < 5%
    genotype_weight: float = 0.25  # loss weight of the genotype head
    patience: int = 5  # epochs without a better validation loss before stopping
    seed: int = 17
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    compile: bool = False  # torch.compile, on CUDA only

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "patience", "copy_steps"):
            _require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "must be at least 1")
        for name in ("samples_per_epoch", "warmup_steps", "weight_decay", "focal_gamma", "genotype_weight", "seed"):
            _require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "must not be negative")
        for name in ("lr", "copy_lr", "clip", "rare_weight"):
            _require(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "must be positive")


@dataclass(frozen=True)
class EvaluateConfig:
    truth: str | None = None  # VCF of the targets' true genotypes
    typed_phased: str | None = None  # VCF of the targets' typed sites, phased
    typed_unphased: str | None = None  # the same unphased, for what takes such: V19 and Beagle
    groups: str | None = None  # TSV sample, group: figures by population
    peers: bool = True  # run Beagle and Minimac4 beside, where they are on PATH
    mask_rate: float = 0.5  # masked protocol: share of sites masked
    mask_rare: float = 0.7  # and of those with MAF < 5%
    min_maf: float = 0.01  # masked protocol: sites below are left out
    batch_size: int = 64  # diploid samples a forward pass

    def __post_init__(self) -> None:
        for name in ("mask_rate", "mask_rare"):
            _require(
                0.0 < getattr(self, name) < 1.0, f"evaluate.{name}", getattr(self, name), "must lie between 0 and 1"
            )
        _require(0.0 <= self.min_maf < 0.5, "evaluate.min_maf", self.min_maf, "must lie in [0, 0.5)")
        _require(self.batch_size >= 1, "evaluate.batch_size", self.batch_size, "must be at least 1")


@dataclass(frozen=True)
class PublishConfig:
    name: str = "vcfbert"  # registered model
    alias: str = "champion"
    metric: str = "val/r2/all"  # decides which variant is best
    minimum: float = 0.5  # and is refused below
    force: str = ""  # a reason to publish what the gate refuses, kept with the version; '' = none


@dataclass(frozen=True)
class TuneConfig:
    """A study of parameters: what is searched, what decides, and what bounds it. Choices are lists; a pair of lr is a
    range, searched by its logarithm."""

    trials: int = 20  # of a study, in all
    epochs: int = 0  # of a trial; 0 = train.epochs
    startup: int = 5  # trials drawn at random before the sampler learns, and finished before any is pruned
    objective: Literal["val/r2/0-0.5", "val/r2/0.5-1", "val/r2/1-5", "val/r2/all", "val/f1", "val/rare_f1"] = (
        "val/r2/0.5-1"  # of validation, the greater the better
    )
    constraint: Literal["none", "memory_mb", "ms_per_batch"] = "none"  # what a trial may not have more of than `limit`
    limit: float = 0.0  # in the unit of the constraint; memory is the GPU's where there is one, else the process's
    retries: int = 5  # times that a trial is taken up again after its worker died
    heartbeat: int = 60  # seconds between a worker's signs of life; dead after three without
    seed: int = 17
    dims: tuple[int, ...] = (16, 32, 48)
    layers: tuple[int, ...] = (1, 2)
    head_width: tuple[int, ...] = (8, 16)  # dims of a head; must divide all of `dims`
    lr: tuple[float, float] = (5e-4, 1e-2)
    warmup_steps: tuple[int, ...] = (20, 50, 100)
    k: dict[str, tuple[int, ...]] = field(
        default_factory=lambda: {"v17": (1, 2, 4), "v18": (32, 64, 128), "v19": (100, 200, 400)}
    )
    refresh_every: tuple[int, ...] = (1, 2)
    copy_lr: tuple[float, float] = (2e-3, 5e-2)
    copy_steps: tuple[int, ...] = (5, 10, 20)
    copy_span_cm: tuple[float, ...] = (0.5, 1.5, 3.0)

    def __post_init__(self) -> None:
        for name in ("trials", "startup", "heartbeat"):
            _require(getattr(self, name) >= 1, f"tune.{name}", getattr(self, name), "must be at least 1")
        for name in ("epochs", "retries", "seed"):
            _require(getattr(self, name) >= 0, f"tune.{name}", getattr(self, name), "must not be negative")
        limited = self.constraint == "none" or self.limit > 0
        _require(limited, "tune.limit", self.limit, f"must be positive, as tune.constraint is {self.constraint}")
        for name in ("dims", "layers", "head_width", "warmup_steps", "refresh_every", "copy_steps", "copy_span_cm"):
            _require(len(getattr(self, name)) >= 1, f"tune.{name}", getattr(self, name), "needs a choice")
        for name in ("lr", "copy_lr"):
            low, high = getattr(self, name)
            _require(0.0 < low <= high, f"tune.{name}", (low, high), "0 < low <= high")
        for variant in VARIANTS:
            _require(len(self.k.get(variant, ())) >= 1, f"tune.k.{variant}", self.k.get(variant), "needs a choice")
        undivided = [(dims, width) for dims in self.dims for width in self.head_width if width < 1 or dims % width]
        _require(not undivided, "tune.head_width", self.head_width, f"must divide tune.dims {self.dims}")


@dataclass(frozen=True)
class Config:
    prepare: PrepareConfig
    encode: EncodeConfig
    model: ModelConfig
    retrieval: RetrievalConfig
    masks: MaskConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    publish: PublishConfig
    tune: TuneConfig = field(default_factory=TuneConfig)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def training_digest(self, variant: str, data_digest: str) -> str:
        """Identity of a training run: checkpoints of another configuration or data are never resumed."""
        body = self.as_dict()
        sections = {name: body[name] for name in ("encode", "model", "retrieval", "masks", "train")}
        sections["validation"] = {name: body["evaluate"][name] for name in ("mask_rate", "mask_rare", "min_maf")}
        return sha256_json({"variant": variant, "data": data_digest, **sections})[:16]


T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of dataclass ``cls`` from plain YAML values, checking names and types. Raises InputError."""
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        _require(name in known, f"{where}{name}", values[name], f"no such parameter; known: {', '.join(known)}")
    for name, f in known.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        _require(name in values or not required, f"{where}{name}", None, "is required")
    return cls(**{name: _convert(hints[name], value, f"{where}{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        _require(isinstance(value, Mapping), name, value, "must be a section")
        return build(typing.cast(type, hint), value, f"{name}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        _require(value in arguments, name, value, f"must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is types.UnionType:
        if value is None and types.NoneType in arguments:
            return None
        several = [one for one in arguments if typing.get_origin(one) is tuple]
        return _convert(several[0] if several and isinstance(value, list | tuple) else arguments[0], value, name)
    if origin is tuple and arguments[-1] is Ellipsis:
        _require(isinstance(value, list | tuple), name, value, "must be a list")
        return tuple(_convert(arguments[0], v, name) for v in value)
    if origin is tuple:
        _require(
            isinstance(value, list | tuple) and len(value) == len(arguments),
            name,
            value,
            f"must be {len(arguments)} values",
        )
        return tuple(_convert(h, v, name) for h, v in zip(arguments, value, strict=True))
    if origin is dict:
        _require(isinstance(value, Mapping), name, value, "must be a mapping")
        return {_convert(arguments[0], k, name): _convert(arguments[1], v, f"{name}.{k}") for k, v in value.items()}
    if hint is float:
        _require(isinstance(value, int | float | str) and not isinstance(value, bool), name, value, "must be a number")
        try:
            number = float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            number = math.nan
        _require(math.isfinite(number), name, value, "must be a number")
        return number
    _require(
        isinstance(value, hint) and (hint is bool or not isinstance(value, bool)),
        name,
        value,
        f"must be {hint.__name__}",
    )
    return value


def load(path: Path) -> Config:
    """The configuration in a ``params.yaml``. Raises InputError."""
    import yaml  # here alone, so that models run where torch and numpy are all there is

    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(
            "params_missing", f"cannot be read ({error.strerror})", where=str(path), hint="check the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        hint = "`vcfbert config show` prints a valid file"
        raise InputError("params_invalid", f"not valid YAML: {detail}", where=str(path), hint=hint) from error
    try:
        _require(isinstance(values, Mapping), "the file", values, "must hold sections of parameters")
        return build(Config, values)
    except InputError as error:
        raise InputError(error.code, error.what, where=str(path), hint=error.hint) from error


def profile_text(name: str) -> str:
    """The text of a built-in profile: cpu, gpu or original."""
    _require(name in PROFILES, "profile", name, f"must be one of {', '.join(PROFILES)}")
    return (files("vcfbert") / "profiles" / f"{name}.yaml").read_text()


def profile(name: str) -> Config:
    import yaml

    return build(Config, yaml.safe_load(profile_text(name)))


def with_overrides(name: str, assignments: Sequence[str], **sections: Mapping[str, Any]) -> Config:
    """A built-in profile with the values of ``sections`` put over it, then ``section.parameter=value`` assignments
    (values as in YAML). Raises InputError."""
    import yaml

    values = yaml.safe_load(profile_text(name))
    for section, changes in sections.items():
        values[section] |= changes
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        *parents, last = path.split(".")
        _require(bool(separator and parents), "--set", assignment, "must read section.parameter=value")
        place = values
        for parent in parents:
            _require(isinstance(place.get(parent), dict), "--set", assignment, f"there is no section {parent}")
            place = place[parent]
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            _require(False, "--set", assignment, "the value is not valid YAML")
    return build(Config, values)
