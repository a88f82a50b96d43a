"""The search space of each variant: maps Optuna's suggestions to parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import optuna

from vcfbert.config import Config, TuneConfig, build

HEAD_WIDTH = "head_width"  # suggested instead of the number of heads, so that heads always divide dims


def suggest(trial: optuna.trial.BaseTrial, variant: str, tune: TuneConfig) -> dict[str, Any]:
    """Suggested parameters of a trial, by their path in ``params.yaml``, such as ``train.lr``."""
    k = f"retrieval.k.{variant}"
    found: dict[str, Any] = {k: trial.suggest_categorical(k, tune.k[variant])}
    if variant == "v19":
        found["encode.copy_span_cm"] = trial.suggest_categorical("encode.copy_span_cm", tune.copy_span_cm)
        return found
    dims = int(trial.suggest_categorical("model.dims", tune.dims))
    width = int(trial.suggest_categorical(HEAD_WIDTH, tune.head_width))
    found["model.dims"], found["model.heads"] = dims, dims // width
    found["model.layers"] = trial.suggest_categorical("model.layers", tune.layers)
    found["train.lr"] = _rate(trial, "train.lr", tune.lr)
    found["train.warmup_steps"] = trial.suggest_categorical("train.warmup_steps", tune.warmup_steps)
    if learns_retrieval(variant):
        refresh = "retrieval.refresh_every"
        found[refresh] = trial.suggest_categorical(refresh, tune.refresh_every)
    return found


def learns_retrieval(variant: str) -> bool:
    """Whether the variant retrieves by learned embeddings, whose index needs refreshes."""
    return variant == "v18"


def _rate(trial: optuna.trial.BaseTrial, name: str, bounds: tuple[float, float]) -> float:
    """A suggested rate, rounded to three digits so that a patch can state it exactly."""
    return float(f"{trial.suggest_float(name, *bounds, log=True):.3g}")


def searched(variant: str, tune: TuneConfig) -> tuple[str, ...]:
    """Paths of the parameters that a study of ``variant`` sets."""
    first: dict[str, Any] = {f"retrieval.k.{variant}": tune.k[variant][0]}
    first |= {"model.dims": tune.dims[0], HEAD_WIDTH: tune.head_width[0], "model.layers": tune.layers[0]}
    first |= {"train.lr": tune.lr[0], "train.warmup_steps": tune.warmup_steps[0]}
    first |= {"retrieval.refresh_every": tune.refresh_every[0], "encode.copy_span_cm": tune.copy_span_cm[0]}
    return tuple(suggest(optuna.trial.FixedTrial(first), variant, tune))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """``{"train.lr": 1}`` -> ``{"train": {"lr": 1}}``"""
    body: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        place = body
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return body


def merge(body: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merges ``changes`` into the nested ``body``, in place."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(body.get(name), dict):
            merge(body[name], value)
        else:
            body[name] = value


def trial_config(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration of a trial. Raises InputError if a choice is out of bounds."""
    body = config.as_dict()
    merge(body, nested(values))
    tried = build(Config, body)
    epochs = config.tune.epochs or config.train.epochs
    return dataclasses.replace(tried, train=dataclasses.replace(tried.train, epochs=epochs))
