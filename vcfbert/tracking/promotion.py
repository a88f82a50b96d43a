"""Registered versions by hand: list them, give one the alias through the gate, and go back to the one before."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcfbert.errors import InputError
from vcfbert.tracking.alias_history import give_alias, read_history, take_back
from vcfbert.tracking.mlflow_tracker import project_root, store_lock
from vcfbert.tracking.promotion_gate import pass_gate
from vcfbert.tracking.registry import (
    DIFFERENCES_TAG,
    FORCED_TAG,
    Published,
    champion,
    find_version,
    measured,
    open_registry,
    published_version,
    record_differences,
    tag_reasons,
)


@dataclass(frozen=True)
class Listed:
    """A version as ``vcfbert registry list`` shows it. ``since``: when it last got the alias, '' if never; ``forced``:
    the reason to pass the gate all the same; ``differences`` from the champion before, in words."""

    version: int
    aliases: tuple[str, ...]
    variant: str
    metric: str
    value: float
    since: str
    why: str
    forced: str
    differences: str

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"aliases": list(self.aliases)}


def list_versions(name: str, alias: str, *, root: Path | None = None) -> list[Listed]:
    """The newest first. Raises InputError 'model_not_found', or as ``open_registry`` does."""
    mlflow = open_registry(root or project_root())
    client = mlflow.MlflowClient()
    aliases = _registered_model(mlflow, name).aliases
    listed = []
    for version in client.search_model_versions(f"name = '{name}'"):
        known, tags = published_version(version), version.tags
        listed.append(
            Listed(
                version=known.version,
                aliases=tuple(sorted(one for one, number in aliases.items() if int(number) == known.version)),
                variant=known.variant,
                metric=known.metric,
                value=known.value,
                since=tags.get(f"{alias}_since", ""),
                why=known.why,
                forced=tags.get(FORCED_TAG, ""),
                differences=tags.get(DIFFERENCES_TAG, ""),
            )
        )
    return sorted(listed, key=lambda one: one.version, reverse=True)


def promote(
    name: str, number: int, *, alias: str, minimum: float, force: str = "", root: Path | None = None
) -> Published:
    """Gives ``alias`` to version ``number`` through the gate that ``publish`` has; ``force``: a reason to do so all the
    same. The version that has it already stays as it is. Raises InputError 'gate_refused', 'model_not_found'."""
    root = root or project_root()
    mlflow = open_registry(root)
    client = mlflow.MlflowClient()
    with store_lock(root, "publish"):
        version = published_version(find_version(mlflow, name, None, str(number)), alias)
        current = champion(name, alias, root=root)
        if current is not None and current.version == number:
            return current
        passed = pass_gate(
            measured(version, root=root),
            None if current is None else measured(current, root=root),
            minimum=minimum,
            name=name,
            alias=alias,
            force=force,
        )
        record_differences(version, current, passed.differences, root=root)
        tag_reasons(client, name, number, passed.why, passed.forced)
        give_alias(client, name, alias, number, passed.why)
    return dataclasses.replace(version, why=passed.why, changed=True, differences=passed.differences)


def roll_back(name: str, *, alias: str, reason: str, root: Path | None = None) -> tuple[Published, Published]:
    """Puts ``alias`` back on the version that had it before, without a gate. Returns what it left and where it is.

    The version that it left is tagged ``ALIAS_rolled_back`` with the reason, and is not gone back to later. Versions
    that were deleted are passed over. Raises InputError 'nothing_before' where no version had the alias before.
    """
    root = root or project_root()
    mlflow = open_registry(root)
    client = mlflow.MlflowClient()
    with store_lock(root, "publish"):
        find_version(mlflow, name, alias, None)  # raises where there is none
        holders = read_history(client, name, alias)
        left = published_version(find_version(mlflow, name, None, str(holders[-1].version)), alias)
        there = {int(version.version) for version in client.search_model_versions(f"name = '{name}'")}
        while holders and (holders[-1].version == left.version or holders[-1].version not in there):
            holders.pop()
        if not holders:
            raise InputError(
                "nothing_before",
                f"no version had {alias} before {left.label}",
                where=name,
                hint="`vcfbert registry list` shows what there is, `vcfbert registry promote` takes any of it",
            )
        why = f"rolled back from {left.label}: {reason}"
        client.set_model_version_tag(name, str(left.version), f"{alias}_rolled_back", reason)
        take_back(client, name, alias, holders, why)
        back = published_version(find_version(mlflow, name, alias, None), alias)
    return left, dataclasses.replace(back, why=why, changed=True)


def _registered_model(mlflow: Any, name: str) -> Any:
    try:
        return mlflow.MlflowClient().get_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise InputError(
            "model_not_found",
            f"no model {name} is registered",
            where=mlflow.get_tracking_uri(),
            hint="`dvc repro publish` registers one",
        ) from error
