"""The model registry: which bundle is the champion, by what figure, and the gate it had to pass.

Aliases say which version is in use (no stages); a version's tags say why. Reads go through ``resolve``, which turns
``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or a folder into a local bundle folder.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import math
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vcfbert.artifacts import DISK_FULL, MANIFEST, output_error, write_json
from vcfbert.errors import ArtifactError, InputError, VcfbertError
from vcfbert.metrics.paired_bootstrap import Difference
from vcfbert.metrics.r2_sums import read_moments
from vcfbert.tracking.alias_history import give_alias
from vcfbert.tracking.mlflow_tracker import (
    BUNDLE_ARTIFACT,
    BUNDLE_DIGEST_TAG,
    MlflowTracker,
    bundle_digest,
    connect,
    project_root,
    store_lock,
    tracking_uri,
)
from vcfbert.tracking.promotion_gate import Measured, below_minimum, pass_gate
from vcfbert.tracking.run_evaluations import MOMENTS, keep_evaluation, keep_table, kept_moments

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_FOLDER = re.compile(r"(?P<number>\d+)-(?P<digest>[0-9a-f]{1,16})")  # of a cached bundle, after its model's name
_ANSWER_SECONDS = 5.0  # within which a registry that works answers
_METRIC_TAG, _VALUE_TAG, _DATA_TAG, _WHY_TAG = "metric", "metric_value", "data_digest", "why"
FORCED_TAG, DIFFERENCES_TAG = "forced", "differences"


@dataclass(frozen=True)
class Candidate:
    """A trained bundle and its figures. ``model_uri`` is what ``Tracker.log_bundle`` returned ('' = log it now);
    ``data_digest`` names the data behind the figures: only figures on the same data are compared. ``moments``: file
    of those of its evaluation; without it, bins are not compared."""

    bundle: Path
    metrics: Mapping[str, float]
    model_uri: str = ""
    data_digest: str = ""
    moments: Path | None = None


@dataclass(frozen=True)
class Published:
    """A registered version. ``changed`` is False where the alias already stood on this very bundle; ``differences``
    are from the champion that it took the alias from, where they are known."""

    name: str
    version: int
    alias: str | None
    variant: str
    metric: str
    value: float
    bundle_digest: str
    why: str
    changed: bool = True
    data_digest: str = field(default="", repr=False)
    run_id: str = field(default="", repr=False)  # of the run that logged its bundle
    differences: tuple[Difference, ...] = field(default=(), repr=False, compare=False)

    @property
    def label(self) -> str:
        return f"version {self.version} ({self.variant})"


def publish(
    candidates: Mapping[str, Candidate],
    *,
    name: str,
    alias: str,
    metric: str,
    minimum: float,
    force: str = "",
    root: Path | None = None,
) -> Published:
    """Gives ``alias`` to the best of ``candidates`` (by variant), where ``metric`` is the greater the better.

    Raises InputError: 'metric_missing' where a candidate lacks the figure; 'gate_refused' where the best is below
    ``minimum`` or, on the same data, below the current champion, or at the targets worse in a MAF bin beyond its
    interval. ``force``: a reason to publish it all the same. Publishing the champion's own bundle changes nothing.
    """
    root = root or project_root()
    variant = best_variant(candidates, metric)
    best = candidates[variant]
    moments = None if best.moments is None else read_moments(best.moments)
    connect(root)
    with store_lock(root, "publish"):
        current = champion(name, alias, root=root)
        if current is not None and current.bundle_digest == bundle_digest(best.bundle):
            if best.moments is not None:
                keep_evaluation(current.run_id, {MOMENTS: best.moments}, root)
            return current
        others = ", ".join(f"{v} {c.metrics[metric]:.4f}" for v, c in sorted(candidates.items()) if v != variant)
        passed = pass_gate(
            Measured(variant, metric, best.metrics[metric], best.data_digest, moments),
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
        if best.moments is not None:
            keep_evaluation(published.run_id, {MOMENTS: best.moments}, root)
        record_differences(published, current, passed.differences, root=root)
        return dataclasses.replace(published, differences=passed.differences)


def best_variant(candidates: Mapping[str, Candidate], metric: str) -> str:
    """The variant with the highest figure; of equal ones the first by name. Raises InputError 'metric_missing'."""
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


def register(
    bundle: Path,
    *,
    name: str,
    alias: str | None,
    variant: str,
    metric: str,
    value: float,
    minimum: float,
    model_uri: str = "",
    data_digest: str = "",
    why: str = "registered by hand",
    forced: str = "",
    root: Path | None = None,
) -> Published:
    """A version of model ``name`` for ``bundle``, tagged with its figure, and ``alias`` set on it (None = no alias).

    A bundle that is registered already keeps its version. Without ``model_uri`` the bundle is logged in a run of
    its own. Raises InputError 'gate_refused' below ``minimum``, unless ``forced`` gives a reason, which is tagged.
    """
    if not forced and (refusal := below_minimum(variant, metric, value, minimum)):
        raise refusal
    root = root or project_root()
    digest = bundle_digest(bundle)
    mlflow = connect(root)
    client = mlflow.MlflowClient()
    version = _registered(client, name, digest)
    if version is None:
        source = model_uri if _holds(mlflow, model_uri, digest) else _log_alone(bundle, variant, root)
        version = mlflow.register_model(source, name, tags={BUNDLE_DIGEST_TAG: digest, "variant": variant})
    tags = {_METRIC_TAG: metric, _VALUE_TAG: repr(value), _DATA_TAG: data_digest}
    for key, text in tags.items():
        client.set_model_version_tag(name, version.version, key, text)
    number = int(version.version)
    tag_reasons(client, name, number, why, forced)
    if alias is not None:  # last: a reader of the alias sees a version that is complete
        give_alias(client, name, alias, number, why)
    run_id = version.run_id or ""
    return Published(name, number, alias, variant, metric, value, digest, why, data_digest=data_digest, run_id=run_id)


def tag_reasons(client: MlflowClient, name: str, number: int, why: str, forced: str) -> None:
    """Why the version got the alias; of an earlier time that it was forced nothing stays."""
    client.set_model_version_tag(name, str(number), _WHY_TAG, why)
    if forced:
        client.set_model_version_tag(name, str(number), FORCED_TAG, forced)
    elif FORCED_TAG in client.get_model_version(name, str(number)).tags:
        client.delete_model_version_tag(name, str(number), FORCED_TAG)


def measured(version: Published, *, root: Path | None = None) -> Measured:
    """The version as the gate sees it, its moments fetched from the run that logged it, where that has them."""
    moments = kept_moments(version.run_id, root or project_root())
    return Measured(version.label, version.metric, version.value, version.data_digest, moments)


def record_differences(
    version: Published, before: Published | None, differences: Sequence[Difference], *, root: Path
) -> None:
    """The paired differences from the champion ``before``, if they are known: a tag of the version, and a table among
    its run's artifacts."""
    if before is None or not differences:
        return
    text = f"from {before.label}: " + "; ".join(difference.text() for difference in differences)
    client = connect(root).MlflowClient()
    client.set_model_version_tag(version.name, str(version.version), DIFFERENCES_TAG, text)
    table = {"from": before.label, "rows": [difference.as_dict() for difference in differences]}
    keep_table(version.run_id, f"from-version-{before.version}.json", table, root)


def _registered(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and tags.{BUNDLE_DIGEST_TAG} = '{digest}'")
    return max(found, key=lambda version: int(version.version), default=None)


def _holds(mlflow: Any, model_uri: str, digest: str) -> bool:
    """Whether the logged model is in this store and is this bundle: DVC may restore a bundle that was trained
    elsewhere, with the URI that it had there."""
    if not model_uri:
        return False
    try:
        model = mlflow.get_logged_model(model_uri.removeprefix("models:/"))
    except mlflow.MlflowException:
        return False
    return bool(model.tags.get(BUNDLE_DIGEST_TAG) == digest)


def _log_alone(bundle: Path, variant: str, root: Path) -> str:
    tracker = MlflowTracker(root, system_metrics=False)
    # Without the tag `variant`, by which training runs are found.
    with tracker.start(f"register {variant}", {}, {"kind": "register"}):
        return tracker.log_bundle(bundle, variant)


def champion(name: str, alias: str, *, root: Path | None = None) -> Published | None:
    """The version that ``alias`` stands on; None where there is no such model or alias."""
    mlflow = connect(root or project_root())
    try:
        version = mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except mlflow.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return published_version(version, alias)


def published_version(version: ModelVersion, alias: str | None = None) -> Published:
    """What a version's tags say of it; tags that it lacks are '' and NaN."""
    tags = version.tags
    return Published(
        name=version.name,
        version=int(version.version),
        alias=alias,
        variant=tags.get("variant", ""),
        metric=tags.get(_METRIC_TAG, ""),
        value=float(tags.get(_VALUE_TAG, "nan")),
        bundle_digest=tags.get(BUNDLE_DIGEST_TAG, ""),
        why=tags.get(_WHY_TAG, ""),
        changed=False,
        data_digest=tags.get(_DATA_TAG, ""),
        run_id=version.run_id or "",
    )


@dataclass(frozen=True)
class RegisteredVersion:
    """What a reference names, as far as the registry or this machine's cache knows."""

    name: str
    number: int
    digest: str


def resolve(reference: str, *, root: Path | None = None, cache: Path | None = None) -> Path:
    """The local bundle folder that ``reference`` names: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, a folder.

    A registered bundle is downloaded once, into ``cache`` (default ``~/.cache/vcfbert/models``), by its digest.
    Raises InputError where there is none, ArtifactError where the download is not what was registered.
    """
    if not reference.startswith("models:"):
        return Path(reference)
    version = look_up(reference, root=root, cache=cache)
    return fetch(version, root=root, cache=cache)


def look_up(reference: str, *, root: Path | None = None, cache: Path | None = None) -> RegisteredVersion:
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` names now; nothing is downloaded.

    What an alias names is remembered in ``cache``. Raises InputError where there is none, VcfbertError
    'registry_unavailable' within seconds where a server does not answer.
    """
    match = _parse(reference)
    root = root or project_root()
    mlflow = open_registry(root)
    found = find_version(mlflow, match["name"], match["alias"], match["version"])
    version = RegisteredVersion(match["name"], int(found.version), found.tags.get(BUNDLE_DIGEST_TAG, ""))
    if match["alias"] is not None:
        memo = _memo(cache or _default_cache(), match["name"], match["alias"])
        if _recall(memo, match["name"]) != version:
            with suppress(VcfbertError):  # a cache that cannot be written to fails where a bundle is put into it
                write_json(memo, {"number": version.number, "digest": version.digest})
    return version


def look_up_cached(reference: str, *, cache: Path | None = None) -> RegisteredVersion | None:
    """What ``reference`` names by the cache alone, for when the registry does not answer: the version that it last
    named here, else the newest one. None where no such bundle is in the cache."""
    match = _parse(reference)
    cache = cache or _default_cache()
    cached = cached_versions(match["name"], cache=cache)
    if match["version"] is not None:
        return next((version for version in cached if version.number == int(match["version"])), None)
    last = _recall(_memo(cache, match["name"], match["alias"]), match["name"])
    return last if last in cached else next(iter(cached), None)


def cached_versions(name: str, *, cache: Path | None = None) -> list[RegisteredVersion]:
    """The versions of a model whose bundles are in ``cache``, the newest first."""
    found = []
    for folder in (cache or _default_cache()).glob(f"{glob.escape(name)}-*"):
        match = _FOLDER.fullmatch(folder.name.removeprefix(f"{name}-"))
        if match is not None and (folder / MANIFEST).is_file():
            digest = bundle_digest(folder)
            if digest.startswith(match["digest"]):
                found.append(RegisteredVersion(name, int(match["number"]), digest))
    return sorted(found, key=lambda version: version.number, reverse=True)


def fetch(version: RegisteredVersion, *, root: Path | None = None, cache: Path | None = None) -> Path:
    """The version's bundle folder in ``cache``. The registry is asked only where it is not there yet. Raises
    ArtifactError where it is not what was registered, VcfbertError 'registry_unavailable'."""
    folder = (cache or _default_cache()) / f"{version.name}-{version.number}-{version.digest[:16]}"
    reference = f"models:/{version.name}/{version.number}"
    if not folder.is_dir():
        root = root or project_root()
        _download(open_registry(root), reference, folder)
    if bundle_digest(folder) != version.digest:
        raise ArtifactError(
            "bundle_hash",
            f"not the bundle that was registered as {reference}",
            where=str(folder),
            hint="remove the folder: it will be downloaded again",
        )
    return folder


def open_registry(root: Path) -> ModuleType:
    """The ``mlflow`` module, to read with. Raises InputError 'no_tracking_store' where there is no store yet,
    VcfbertError 'registry_unavailable' within seconds where a server does not answer."""
    _check_reachable(tracking_uri(root))
    return connect(root, must_exist=True)


def _default_cache() -> Path:
    return Path.home() / ".cache" / "vcfbert" / "models"


def _parse(reference: str) -> re.Match[str]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(
            "model_reference", f"{reference!r} names no model", hint="write models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    return match


def _memo(cache: Path, name: str, alias: str) -> Path:
    return cache / f"{name}@{alias}.json"


def _recall(memo: Path, name: str) -> RegisteredVersion | None:
    try:
        last = json.loads(memo.read_text())
        return RegisteredVersion(name, int(last["number"]), str(last["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_reachable(uri: str) -> None:
    """Raises 'registry_unavailable' where a server does not answer at once: MLflow itself tries for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    uri = _without_password(uri)  # nor does the request below take one: a server that refuses it answers
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # a server that hides this page answers others
            return
        raise _unavailable(f"it answers {error.code}", uri) from error
    except (OSError, ValueError, HTTPException) as error:
        raise _unavailable(str(error), uri) from error


def _unavailable(why: str, uri: str) -> VcfbertError:
    what, hint = f"the model registry cannot be used: {why}", "check MLFLOW_TRACKING_URI and whether the server runs"
    return VcfbertError("registry_unavailable", what, where=_without_password(uri), hint=hint)


def _without_password(uri: str) -> str:
    head, separator, rest = uri.partition("//")
    host, slash, path = rest.partition("/")
    return f"{head}{separator}{host.rpartition('@')[2]}{slash}{path}"


def find_version(mlflow: Any, name: str, alias: str | None, number: str | None) -> ModelVersion:
    client: MlflowClient = mlflow.MlflowClient()
    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, str(number))
    except mlflow.MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise _unavailable(error.error_code, mlflow.get_tracking_uri()) from error
        raise InputError(
            "model_not_found",
            f"{name} has no {f'alias {alias!r}' if alias else f'version {number}'} ({error.message})",
            where=mlflow.get_tracking_uri(),
            hint="`dvc repro publish` registers one; `make ui` shows what there is",
        ) from error


def _download(mlflow: Any, model_uri: str, folder: Path) -> None:
    """The bundle's folder out of the MLflow model, put in place whole."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise output_error(error, folder) from error
    try:
        try:
            model = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(temporary)))
        except mlflow.MlflowException as error:
            raise _unavailable(f"{model_uri} cannot be downloaded", mlflow.get_tracking_uri()) from error
        except OSError as error:  # of the network, or of the disk
            if error.errno in DISK_FULL:
                raise
            raise _unavailable(f"{model_uri} cannot be downloaded", mlflow.get_tracking_uri()) from error
        flavor = mlflow.models.Model.load(str(model)).flavors["python_function"]
        os.replace(model / flavor["artifacts"][BUNDLE_ARTIFACT]["path"], folder)
    except OSError as error:
        if not folder.is_dir():  # else another process put it there first
            raise output_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
