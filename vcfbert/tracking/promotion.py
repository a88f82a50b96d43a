"""Moves the alias: publish or promote a version through the promotion gate, or roll back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcfbert.artifacts import bundle_digest
from vcfbert.errors import InputError
from vcfbert.metrics.paired_bootstrap import Difference
from vcfbert.metrics.r2_sums import read_r2_sums
from vcfbert.tracking.alias_history import give_alias, read_history, take_back
from vcfbert.tracking.promotion_gate import Measured, pass_gate
from vcfbert.tracking.registry import (
    DIFFERENCES_TAG,
    ModelReference,
    RegisteredVersion,
    champion,
    find_version,
    register,
    tag_reasons,
)
from vcfbert.tracking.run_evaluations import R2_SUMS, keep_evaluation, keep_table, kept_r2_sums
from vcfbert.tracking.store import connect, open_registry, project_root, store_lock


@dataclass(frozen=True)
class Candidate:
    """A trained bundle and its figures.

    ``model_uri`` is what ``Tracker.log_bundle`` returned; '' = log the bundle now. ``data_digest`` identifies the data
    behind the figures: only figures on the same data are compared. ``r2_sums`` is the file of its evaluation's R2 sums;
    without it, bins are not compared.
    """

    bundle: Path
    metrics: Mapping[str, float]
    model_uri: str = ""
    data_digest: str = ""
    r2_sums: Path | None = None


@dataclass(frozen=True)
class Promotion:
    """The version that now has the alias.

    ``changed`` is False if it had the alias before. ``differences`` are from the version that lost the alias; empty if
    unknown.
    """

    version: RegisteredVersion
    changed: bool
    differences: tuple[Difference, ...] = ()


def publish(
    candidates: Mapping[str, Candidate],
    *,
    name: str,
    alias: str,
    metric: str,
    minimum: float,
    force: str = "",
    root: Path | None = None,
) -> Promotion:
    """Gives ``alias`` to the one of ``candidates``, by variant, with the highest ``metric``.

    ``force`` is a reason to publish it although the promotion gate refuses. Publishing the champion's own bundle
    changes nothing. Raises InputError 'metric_missing' if a candidate lacks the figure, and 'gate_refused' if the best
    one is below ``minimum``, below the champion on the same data, or worse than the champion in a MAF bin at the
    targets, outside the interval.
    """
    root = root or project_root()
    variant = best_variant(candidates, metric)
    best = candidates[variant]
    r2_sums = None if best.r2_sums is None else read_r2_sums(best.r2_sums)
    connect(root)
    with store_lock(root, "publish"):
        current = champion(name, alias, root=root)
        if current is not None and current.bundle_digest == bundle_digest(best.bundle):
            if best.r2_sums is not None:
                keep_evaluation(current.run_id, {R2_SUMS: best.r2_sums}, root)
            return Promotion(current, changed=False)
        others = ", ".join(f"{v} {c.metrics[metric]:.4f}" for v, c in sorted(candidates.items()) if v != variant)
        passed = pass_gate(
            Measured(variant, metric, best.metrics[metric], best.data_digest, r2_sums),
            None if current is None else measured(current, root=root),
            minimum=minimum,
            name=name,
            alias=alias,
            others=f" ({others})" if others else "",
            force=force,
        )
        published = register(
            best.bundle,
            name=name,
            alias=alias,
            variant=variant,
            metric=metric,
            value=best.metrics[metric],
            minimum=minimum,
            model_uri=best.model_uri,
            data_digest=best.data_digest,
            why=passed.why,
            forced=passed.forced,
            root=root,
        )
        if best.r2_sums is not None:
            keep_evaluation(published.run_id, {R2_SUMS: best.r2_sums}, root)
        record_differences(published, current, passed.differences, root=root)
        return Promotion(published, changed=True, differences=passed.differences)


def promote(
    name: str, number: int, *, alias: str, minimum: float, force: str = "", root: Path | None = None
) -> Promotion:
    """Gives ``alias`` to version ``number`` if it passes the promotion gate.

    ``force`` is a reason to do so although the gate refuses. A version that already has the alias is left unchanged.
    Raises InputError 'gate_refused', 'model_not_found'.
    """
    root = root or project_root()
    mlflow = open_registry(root)
    client = mlflow.MlflowClient()
    with store_lock(root, "publish"):
        version = find_version(mlflow, ModelReference(name, number=number))
        current = champion(name, alias, root=root)
        if current == version:
            return Promotion(version, changed=False)
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
    return Promotion(dataclasses.replace(version, why=passed.why), changed=True, differences=passed.differences)


def roll_back(
    name: str, *, alias: str, reason: str, root: Path | None = None
) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Gives ``alias`` back to the version that had it before, without the promotion gate.

    Returns the version that lost the alias and the one that now has it.

    The version that lost the alias is tagged ``ALIAS_rolled_back`` with the reason; later rollbacks skip it. Deleted
    versions are skipped too. Raises InputError 'nothing_before' if no version had the alias before.
    """
    root = root or project_root()
    mlflow = open_registry(root)
    client = mlflow.MlflowClient()
    with store_lock(root, "publish"):
        find_version(mlflow, ModelReference(name, alias))  # raises if no version has the alias
        holders = read_history(client, name, alias)
        left = find_version(mlflow, ModelReference(name, number=holders[-1].version))
        existing = {int(version.version) for version in client.search_model_versions(f"name = '{name}'")}
        while holders and (holders[-1].version == left.number or holders[-1].version not in existing):
            holders.pop()
        if not holders:
            raise InputError(
                "nothing_before",
                f"no version had {alias} before {left.label}",
                where=name,
                hint="`vcfbert registry list` shows all versions; `vcfbert registry promote` accepts any of them",
            )
        why = f"rolled back from {left.label}: {reason}"
        client.set_model_version_tag(name, str(left.number), f"{alias}_rolled_back", reason)
        take_back(client, name, alias, holders, why)
        back = find_version(mlflow, ModelReference(name, alias))
    return left, dataclasses.replace(back, why=why)


def best_variant(candidates: Mapping[str, Candidate], metric: str) -> str:
    """The variant with the highest figure; ties go to the first by name. Raises InputError 'metric_missing'."""
    if not candidates:
        raise InputError("no_candidates", "nothing to publish", hint="train a variant first")
    for variant, candidate in candidates.items():
        if not math.isfinite(candidate.metrics.get(metric, math.nan)):
            raise InputError(
                "metric_missing",
                f"{variant} has no figure {metric!r}",
                hint=f"publish.metric must be one of: {', '.join(sorted(candidate.metrics)) or 'none was given'}",
            )
    return min(candidates, key=lambda variant: (-candidates[variant].metrics[metric], variant))


def measured(version: RegisteredVersion, *, root: Path | None = None) -> Measured:
    """The figures of a version for the promotion gate, with the R2 sums of the run that logged it, if stored."""
    r2_sums = kept_r2_sums(version.run_id, root or project_root())
    return Measured(version.label, version.metric, version.value, version.data_digest, r2_sums)


def record_differences(
    version: RegisteredVersion, before: RegisteredVersion | None, differences: Sequence[Difference], *, root: Path
) -> None:
    """Records the paired differences from the champion ``before``, if known.

    They become a tag of the version and a table among its run's artifacts.
    """
    if before is None or not differences:
        return
    text = f"from {before.label}: " + "; ".join(difference.text() for difference in differences)
    client = connect(root).MlflowClient()
    client.set_model_version_tag(version.name, str(version.number), DIFFERENCES_TAG, text)
    table = {"from": before.label, "rows": [difference.as_dict() for difference in differences]}
    keep_table(version.run_id, f"from-version-{before.number}.json", table, root)
