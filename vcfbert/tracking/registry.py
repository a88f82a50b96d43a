"""The model registry: versions of a model, their tags, and the aliases that mark the one in use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcfbert.artifacts import SIGNATURE, bundle_digest
from vcfbert.errors import InputError
from vcfbert.tracking.alias_history import give_alias
from vcfbert.tracking.mlflow_tracker import BUNDLE_DIGEST_TAG, SIGNATURE_TAG, MlflowTracker
from vcfbert.tracking.promotion_gate import below_minimum
from vcfbert.tracking.store import NOT_FOUND, connect, open_registry, project_root, unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<number>\d+))")
_METRIC_TAG, _VALUE_TAG, _DATA_TAG, _WHY_TAG, _SINCE_SUFFIX = "metric", "metric_value", "data_digest", "why", "_since"
FORCED_TAG, DIFFERENCES_TAG = "forced", "differences"


@dataclass(frozen=True)
class ModelReference:
    """``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``: either ``alias`` or ``number`` is set."""

    name: str
    alias: str | None = None
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Raises InputError 'model_reference'."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            hint = "write models:/NAME@ALIAS or models:/NAME/VERSION"
            raise InputError("model_reference", f"{text!r} is no reference to a model", hint=hint)
        number = match["number"]
        return cls(match["name"], match["alias"], None if number is None else int(number))


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model. Name, number and digest identify it; the other fields come from its tags.

    The cache of bundles stores only the identity; the other fields of a cached version have their defaults.
    """

    name: str
    number: int
    bundle_digest: str
    variant: str = field(default="", compare=False)
    metric: str = field(default="", compare=False)  # the name of the metric that the promotion gate compares
    value: float = field(default=math.nan, compare=False)  # and its value
    data_digest: str = field(default="", compare=False)  # of the data behind the value
    why: str = field(default="", compare=False)  # the reason for its last alias
    forced: str = field(default="", compare=False)  # the reason given to pass a gate that refused it
    differences: str = field(default="", compare=False)  # from the version that had the alias before, in words
    run_id: str = field(default="", compare=False)  # of the run that logged its bundle
    signature: str = field(default="", compare=False)  # of its bundle's manifest, in hexadecimal
    since: Mapping[str, str] = field(default_factory=dict, compare=False)  # UTC time by alias that it has or had

    @classmethod
    def from_mlflow(cls, version: ModelVersion) -> RegisteredVersion:
        """Reads number, tags and run of MLflow's own object."""
        tags = version.tags
        return cls(
            name=version.name,
            number=int(version.version),
            bundle_digest=tags.get(BUNDLE_DIGEST_TAG, ""),
            variant=tags.get("variant", ""),
            metric=tags.get(_METRIC_TAG, ""),
            value=float(tags.get(_VALUE_TAG, "nan")),
            data_digest=tags.get(_DATA_TAG, ""),
            why=tags.get(_WHY_TAG, ""),
            forced=tags.get(FORCED_TAG, ""),
            differences=tags.get(DIFFERENCES_TAG, ""),
            run_id=version.run_id or "",
            signature=tags.get(SIGNATURE_TAG, ""),
            since={key.removesuffix(_SINCE_SUFFIX): at for key, at in tags.items() if key.endswith(_SINCE_SUFFIX)},
        )

    @property
    def label(self) -> str:
        """For messages, for example 'version 3 (v18)'."""
        return f"version {self.number} ({self.variant})"

    @property
    def reference(self) -> str:
        """The URI that names this version whatever its aliases: ``models:/NAME/VERSION``."""
        return f"models:/{self.name}/{self.number}"


def find_version(mlflow: Any, reference: ModelReference) -> RegisteredVersion:
    """The version of ``reference``. Raises InputError 'model_not_found', VcfbertError 'registry_unavailable'."""
    client: MlflowClient = mlflow.MlflowClient()
    name, alias, number = reference.name, reference.alias, reference.number
    try:
        if alias is not None:
            return RegisteredVersion.from_mlflow(client.get_model_version_by_alias(name, alias))
        return RegisteredVersion.from_mlflow(client.get_model_version(name, str(number)))
    except mlflow.MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise unavailable(error.error_code, mlflow.get_tracking_uri()) from error
        raise InputError(
            "model_not_found",
            f"{name} has no {f'alias {alias!r}' if alias else f'version {number}'} ({error.message})",
            where=mlflow.get_tracking_uri(),
            hint="`dvc repro publish` registers a version; `vcfbert registry list` shows all",
        ) from error


def champion(name: str, alias: str, *, root: Path | None = None) -> RegisteredVersion | None:
    """The version that has ``alias``; None if there is no such model or alias."""
    mlflow = connect(root or project_root())
    try:
        return RegisteredVersion.from_mlflow(mlflow.MlflowClient().get_model_version_by_alias(name, alias))
    except mlflow.MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise


def list_versions(name: str, *, root: Path | None = None) -> list[tuple[RegisteredVersion, tuple[str, ...]]]:
    """Each version with its aliases, newest first. Raises InputError 'model_not_found', or as ``open_registry``."""
    mlflow = open_registry(root or project_root())
    client = mlflow.MlflowClient()
    try:
        aliases = client.get_registered_model(name).aliases
    except mlflow.MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        raise InputError(
            "model_not_found",
            f"no model {name} is registered",
            where=mlflow.get_tracking_uri(),
            hint="`dvc repro publish` registers one",
        ) from error
    versions = map(RegisteredVersion.from_mlflow, client.search_model_versions(f"name = '{name}'"))
    newest_first = sorted(versions, key=lambda version: version.number, reverse=True)
    return [
        (version, tuple(sorted(alias for alias, number in aliases.items() if int(number) == version.number)))
        for version in newest_first
    ]


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
) -> RegisteredVersion:
    """Registers ``bundle`` as a version of model ``name``, tags it with its figure and gives it ``alias``, if any.

    A bundle that is already registered keeps its version. Without ``model_uri``, the bundle is logged in a run of its
    own. Raises InputError 'gate_refused' below ``minimum``, unless ``forced`` gives a reason, which is tagged.
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
    if (bundle / SIGNATURE).is_file():  # the logged model may be older than the signature
        tags[SIGNATURE_TAG] = (bundle / SIGNATURE).read_bytes().hex()
    for key, text in tags.items():
        client.set_model_version_tag(name, version.version, key, text)
    number = int(version.version)
    tag_reasons(client, name, number, why, forced)
    if alias is not None:  # last, so that readers of the alias see a complete version
        give_alias(client, name, alias, number, why)
    return RegisteredVersion.from_mlflow(client.get_model_version(name, version.version))


def tag_reasons(client: MlflowClient, name: str, number: int, why: str, forced: str) -> None:
    """Tags the reason why the version got the alias. An earlier reason to force it is removed."""
    client.set_model_version_tag(name, str(number), _WHY_TAG, why)
    if forced:
        client.set_model_version_tag(name, str(number), FORCED_TAG, forced)
    elif FORCED_TAG in client.get_model_version(name, str(number)).tags:
        client.delete_model_version_tag(name, str(number), FORCED_TAG)


def _registered(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and tags.{BUNDLE_DIGEST_TAG} = '{digest}'")
    return max(found, key=lambda version: int(version.version), default=None)


def _holds(mlflow: Any, model_uri: str, digest: str) -> bool:
    """Whether the logged model is in this store and is this bundle.

    DVC may restore a bundle that was trained elsewhere, with the URI that it had there.
    """
    if not model_uri:
        return False
    try:
        model = mlflow.get_logged_model(model_uri.removeprefix("models:/"))
    except mlflow.MlflowException:
        return False
    return bool(model.tags.get(BUNDLE_DIGEST_TAG) == digest)


def _log_alone(bundle: Path, variant: str, root: Path) -> str:
    tracker = MlflowTracker(root, system_metrics=False)
    # No tag `variant`: it marks training runs.
    with tracker.start(f"register {variant}", {}, {"kind": "register"}):
        return tracker.log_bundle(bundle, variant)
