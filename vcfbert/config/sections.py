"""The sections of ``params.yaml``: one frozen dataclass each, with its bounds.

pydantic checks types and bounds wherever a section is built. It raises a ``ValidationError``; ``vcfbert.config.build``
turns that into an InputError in the words of ``params.yaml``. Text that reads as a number counts as one, because YAML
reads ``1e-3`` as text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
)
from pydantic.dataclasses import dataclass

from vcfbert.artifacts import sha256_json
from vcfbert.constants import VARIANTS

# Unknown names and non-finite numbers are errors. Schemas are built on first use: an imputation needs two of the ten.
_RULES = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True, defer_build=True)

_MAX_WHOLE = 2**31 - 1  # counts and seeds beyond it would fail in the libraries that receive them


def _number_from_text(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _paths(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(path, str) for path in value):
        return tuple(value)
    raise ValueError("must be a path or a list of paths")


def _two_values(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2:
        return value
    raise ValueError("must be a list of 2 values")


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the first value must not be above the second")
    return value


Number = Annotated[float, Strict(), BeforeValidator(_number_from_text)]
WholeNumber = Annotated[StrictInt, Field(le=_MAX_WHOLE)]
NonNegative = Annotated[WholeNumber, Field(ge=0)]
AtLeastOne = Annotated[WholeNumber, Field(ge=1)]
AtLeastEight = Annotated[WholeNumber, Field(ge=8)]
NonNegativeNumber = Annotated[Number, Field(ge=0)]
PositiveNumber = Annotated[Number, Field(gt=0)]
BetweenZeroAndOne = Annotated[Number, Field(gt=0, lt=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
ErrorRate = Annotated[Number, Field(ge=0, lt=0.5)]
Choices = Annotated[tuple[AtLeastOne, ...], Field(min_length=1)]
Range = Annotated[tuple[PositiveNumber, PositiveNumber], BeforeValidator(_two_values), AfterValidator(_ascending)]
Paths = Annotated[str | tuple[str, ...], PlainValidator(_paths)]


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _default_k_choices() -> dict[str, tuple[int, ...]]:
    return {"v17": (1, 2, 4), "v18": (32, 64, 128), "v19": (100, 200, 400)}


def _check_variants(given: Iterable[str]) -> None:
    if set(given) != set(VARIANTS):
        raise ValueError(f"must have one entry for each variant, {', '.join(VARIANTS)}")


@dataclass(frozen=True, config=_RULES)
class PrepareConfig:
    # VCF, BCF or VCF Zarr of phased reference haplotypes; a list of files; {chrom} in the name; or one panel store.
    panel: Annotated[Paths, Field(min_length=1)]
    map: Paths | None = None  # genetic map, given likewise; None = 1 cM/Mb
    region: str | None = None  # CHROM or CHROM:FROM-TO, 1-based and inclusive; None = all
    build: str | None = None  # genome build of X: b37, b38, or none (one region); None = by its length
    info: tuple[str, ...] = ()  # INFO fields of the panel's records that imputed files repeat
    max_missing: Share = 0.1  # greatest share of unknown alleles of the panel that is filled; 0 = none is
    holdout: BetweenZeroAndOne = 0.1  # fraction of samples held out for validation
    seed: NonNegative = 17  # of the split into training and validation samples

    @property
    def panels(self) -> tuple[str, ...]:
        return _listed(self.panel)

    @property
    def maps(self) -> tuple[str, ...]:
        return _listed(self.map)


@dataclass(frozen=True, config=_RULES)
class EncodeConfig:
    window: AtLeastEight = 256  # V17 and V18: sites per window, flanks included
    flank: NonNegative = 16  # V17 and V18: sites on each side that neighbouring windows share; at most window / 4
    span_cm: NonNegativeNumber = 0.2  # V17 and V18: retrieval also uses typed sites this far around a window, cM
    copy_window: AtLeastEight = 16384  # V19: sites per window
    copy_span_cm: NonNegativeNumber = 1.5  # V19: also uses typed sites this far around a window, cM

    @field_validator("flank")
    @classmethod
    def _flank_fits_window(cls, flank: int, info: ValidationInfo) -> int:
        if "window" in info.data and flank > info.data["window"] // 4:
            raise ValueError(f"must be at most a quarter of encode.window ({info.data['window']})")
        return flank


@dataclass(frozen=True, config=_RULES)
class ModelConfig:
    dims: AtLeastEight = 64  # width of embeddings and encoder
    layers: AtLeastOne = 2  # encoder blocks
    heads: AtLeastOne = 4  # attention heads; must divide dims
    mlp_ratio: AtLeastOne = 4  # hidden width of a block's MLP, as a multiple of dims
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0  # dropout rate
    seed: NonNegative = 17  # of the initial weights

    @field_validator("heads")
    @classmethod
    def _heads_divide_dims(cls, heads: int, info: ValidationInfo) -> int:
        if "dims" in info.data and info.data["dims"] % heads:
            raise ValueError(f"must divide model.dims ({info.data['dims']})")
        return heads


@dataclass(frozen=True, config=_RULES)
class RetrievalConfig:
    # Haplotypes retrieved, by variant. 0 = none: V17's or V18's network alone, from the panel's frequencies.
    k: dict[str, NonNegative] = Field(default_factory=lambda: {"v17": 2, "v18": 64, "v19": 400})
    refresh_every: NonNegative = 1  # epochs between refreshes of embeddings and index; 0 = never
    backend: Literal["auto", "faiss", "torch"] = "auto"  # library that searches the index

    @field_validator("k")
    @classmethod
    def _k_of_every_variant(cls, k: dict[str, int]) -> dict[str, int]:
        _check_variants(k)
        if k["v19"] < 1:
            raise ValueError("v19 must be at least 1, because V19 copies what it retrieves")
        return k


@dataclass(frozen=True, config=_RULES)
class MaskConfig:
    start: BetweenZeroAndOne = 0.30  # fraction of sites masked in the first epochs
    end: BetweenZeroAndOne = 0.80  # fraction of sites masked in the last epochs; at least start
    step_epochs: AtLeastOne = 2  # epochs between two steps from start to end
    rare: Annotated[Number, Field(ge=0, lt=1)] = 0.70  # minimum fraction masked of sites with MAF < 5%
    # Fraction of windows masked like a genotyping array, each epoch.
    array_share: Annotated[Number, Field(ge=0, le=1)] = 0.5
    # Minimum and maximum typed fraction of array-like masks; sampled log-uniformly.
    array_density: Range = (0.01, 0.20)
    typing_error: ErrorRate = 1e-3  # V19: fraction of typed alleles that are wrong
    missing: ErrorRate = 5e-3  # V19: fraction of typed alleles that are not called

    @field_validator("end")
    @classmethod
    def _end_from_start(cls, end: float, info: ValidationInfo) -> float:
        if "start" in info.data and end < info.data["start"]:
            raise ValueError(f"must be at least masks.start ({info.data['start']})")
        return end

    @field_validator("array_density")
    @classmethod
    def _density_is_a_fraction(cls, density: tuple[float, float]) -> tuple[float, float]:
        if density[1] > 1:
            raise ValueError("must be at most 1")
        return density


@dataclass(frozen=True, config=_RULES)
class TrainConfig:
    epochs: AtLeastOne = 6  # maximum epochs
    batch_size: AtLeastOne = 32  # diploid samples per batch
    samples_per_epoch: NonNegative = 32  # training samples per window and epoch; 0 = all
    accumulate: AtLeastOne = 1  # batches per optimiser step
    lr: PositiveNumber = 2e-3  # learning rate of V17 and V18
    weight_decay: NonNegativeNumber = 0.01  # weight decay of the optimiser
    warmup_steps: NonNegative = 50  # optimiser steps of linear warm-up; a cosine decay to a tenth follows
    clip: PositiveNumber = 1.0  # maximum gradient norm
    loss: Literal["focal", "cross_entropy"] = "cross_entropy"  # loss at masked sites
    focal_gamma: NonNegativeNumber = 2.0  # exponent of the focal loss
    rare_weight: PositiveNumber = 2.0  # loss weight of sites with MAF < 5%
    genotype_weight: NonNegativeNumber = 0.25  # loss weight of the genotype head
    patience: AtLeastOne = 5  # epochs without a better validation loss before training stops
    seed: NonNegative = 17  # of masks, sampling and shuffling
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # arithmetic of training
    compile: StrictBool = False  # use torch.compile, on CUDA only


@dataclass(frozen=True, config=_RULES)
class EvaluateConfig:
    truth: str | None = None  # VCF of the targets' true genotypes
    typed_phased: str | None = None  # VCF of the targets' typed sites, phased
    typed_unphased: str | None = None  # VCF of the same sites, unphased; V19 and Beagle phase them
    groups: str | None = None  # TSV of sample and group, for figures by group; None = none
    peers: StrictBool = True  # also run the baselines Beagle and Minimac4, where installed
    mask_rate: BetweenZeroAndOne = 0.5  # masked protocol: fraction of sites masked
    mask_rare: BetweenZeroAndOne = 0.7  # masked protocol: fraction masked of sites with MAF < 5%
    min_maf: ErrorRate = 0.01  # masked protocol: sites of lower MAF are excluded
    batch_size: AtLeastOne = 64  # diploid samples per forward pass


@dataclass(frozen=True, config=_RULES)
class PublishConfig:
    name: str = "vcfbert"  # registered model
    alias: str = "champion"  # alias of the published version
    metric: str = "val/r2/all"  # validation figure by which variants are compared
    minimum: Number = 0.5  # minimum of the metric; a lower figure is not published
    force: str = ""  # reason to publish what the promotion gate refuses, kept with the version; "" = none


@dataclass(frozen=True, config=_RULES)
class TuneConfig:
    """A study of parameters: its size, its objective, and the choices of each parameter.

    Choices are lists. ``lr`` is a range, searched on a log scale.
    """

    trials: AtLeastOne = 20  # trials of a study, in total
    epochs: NonNegative = 0  # epochs per trial; 0 = train.epochs
    startup: AtLeastOne = 5  # random trials before the sampler learns and pruning starts
    objective: Literal["val/r2/0-0.5", "val/r2/0.5-1", "val/r2/1-5", "val/r2/all", "val/f1", "val/rare_f1"] = (
        "val/r2/0.5-1"  # validation figure to maximise
    )
    constraint: Literal["none", "memory_mb", "ms_per_batch"] = "none"  # the cost that is limited
    # Maximum of the constraint, in MB or milliseconds. Memory is the GPU's where there is one, else the process's.
    limit: Number = 0.0
    retries: NonNegative = 5  # times a trial is re-queued after its worker died
    heartbeat: AtLeastOne = 60  # seconds between a worker's heartbeats; after three misses the trial is re-queued
    seed: NonNegative = 17  # of the sampler
    dims: Choices = (16, 32, 48)  # choices of model.dims
    layers: Choices = (1, 2)  # choices of model.layers
    head_width: Choices = (8, 16)  # choices of model.dims / model.heads; each must divide each of dims
    lr: Range = (5e-4, 1e-2)  # range of train.lr
    warmup_steps: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (20, 50, 100)  # of train.warmup_steps
    # Choices of retrieval.k, by variant.
    k: dict[str, Annotated[tuple[NonNegative, ...], Field(min_length=1)]] = Field(default_factory=_default_k_choices)
    # Choices of retrieval.refresh_every.
    refresh_every: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (1, 2)
    # V19: choices of encode.copy_span_cm, cM.
    copy_span_cm: Annotated[tuple[NonNegativeNumber, ...], Field(min_length=1)] = (0.5, 1.5, 3.0)

    @field_validator("limit")
    @classmethod
    def _limit_of_constraint(cls, limit: float, info: ValidationInfo) -> float:
        constraint = info.data.get("constraint", "none")
        if constraint != "none" and limit <= 0:
            raise ValueError(f"must be positive, because tune.constraint is {constraint}")
        return limit

    @field_validator("head_width")
    @classmethod
    def _widths_divide_dims(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if any(dims % width for dims in info.data.get("dims", ()) for width in widths):
            raise ValueError(f"each must divide each of tune.dims {info.data['dims']}")
        return widths

    @field_validator("k")
    @classmethod
    def _k_of_every_variant(cls, k: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        _check_variants(k)
        return k


@dataclass(frozen=True, config=_RULES)
class Config:
    """The whole of ``params.yaml``."""

    prepare: PrepareConfig
    encode: EncodeConfig
    model: ModelConfig
    retrieval: RetrievalConfig
    masks: MaskConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    publish: PublishConfig
    tune: TuneConfig = Field(default_factory=TuneConfig)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by section and name, as runs and studies store them."""
        return dataclasses.asdict(self)

    def training_digest(self, variant: str, data_digest: str) -> str:
        """Identity of a training run. A checkpoint of another configuration, or of other data, is never resumed."""
        body = self.as_dict()
        sections = {name: body[name] for name in ("encode", "model", "retrieval", "masks", "train")}
        sections["validation"] = {name: body["evaluate"][name] for name in ("mask_rate", "mask_rare", "min_maf")}
        return sha256_json({"variant": variant, "data": data_digest, **sections})[:16]
