"""``vcfbert registry``: the versions of a model and its alias. Calls ``tracking.promotion``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.config import PublishConfig
    from vcfbert.tracking.registry import RegisteredVersion

registry_app = typer.Typer(help="Registered versions of the model, and the champion.", no_args_is_help=True)

Name = Annotated[str | None, typer.Option(help="Registered model. Without: publish.name of params.yaml.")]
Alias = Annotated[str | None, typer.Option(help="Without: publish.alias of params.yaml.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]


@registry_app.command("list")
def registry_list(name: Name = None, alias: Alias = None, as_json: JsonFlag = False) -> None:
    """List versions, the newest first: aliases, variant, figure, when each got the alias and why.

    **Example**

    vcfbert registry list --name vcfbert
    """
    from vcfbert.tracking.registry import list_versions

    settings = _settings()
    chosen = alias or settings.alias
    versions = list_versions(name or settings.name)
    if as_json:
        rows = [_row(version, aliases, version.since.get(chosen, "")) for version, aliases in versions]
        _say(json.dumps(rows, indent=1))
        return
    if not versions:
        _say("no version is registered")
    for version, with_aliases in versions:
        aliases = "".join(f" @{one}" for one in with_aliases)
        figure = f"{version.metric} {version.value:.4f}" if version.metric else "no figure"
        since = f", {version.since[chosen]}" if chosen in version.since else ""
        _say(f"{version.number}{aliases}  {version.variant}, {figure}{since}")
        _say(f"    {version.why or 'no reason is known'}")
        if version.differences:
            _say(f"    {version.differences}")


@registry_app.command("promote")
def registry_promote(
    version: Annotated[int, typer.Argument(help="Number of the version.", min=1)],
    name: Name = None,
    alias: Alias = None,
    force: Annotated[str, typer.Option(help="Why, though the gate refuses it; is kept with the version.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Give a version the alias, through the gate that `publish` has.

    It must have at least publish.minimum, not less than the present champion on the same data, and r2 at the targets
    that is worse in no MAF bin beyond its interval.

    **Examples**

    vcfbert registry promote 3

    vcfbert registry promote 3 --force smaller
    """
    from vcfbert.tracking.promotion import promote

    settings = _settings()
    chosen, name = alias or settings.alias, name or settings.name
    done = promote(name, version, alias=chosen, minimum=settings.minimum, force=force)
    if as_json:
        rows = [difference.as_dict() for difference in done.differences]
        told = {"version": version, "changed": done.changed, "why": done.version.why, "differences": rows}
        _say(json.dumps(told, indent=1))
    else:
        state = "now" if done.changed else "already"
        _say(f"models:/{name}@{chosen} is {state} {done.version.label}: {done.version.why}")


@registry_app.command("rollback")
def registry_rollback(
    reason: Annotated[str, typer.Option(help="Why; is kept with the version that loses the alias.")],
    name: Name = None,
    alias: Alias = None,
    as_json: JsonFlag = False,
) -> None:
    """Put the alias back on the version that had it before, at once and without a gate. Repeated, it goes further back.

    **Example**

    vcfbert registry rollback --reason regression
    """
    from vcfbert.tracking.promotion import roll_back

    if not reason.strip():
        raise InputError("reason_missing", "--reason is empty", hint="say why, in a few words")
    settings = _settings()
    chosen, name = alias or settings.alias, name or settings.name
    left, back = roll_back(name, alias=chosen, reason=reason)
    if as_json:
        _say(json.dumps({"left": left.number, "version": back.number, "why": back.why}, indent=1))
    else:
        _say(f"models:/{name}@{chosen} is {back.label} again, no longer {left.label}")


def _settings() -> PublishConfig:
    """The section ``publish`` of the project's params.yaml, the defaults outside of a project."""
    from vcfbert.config import PublishConfig, load
    from vcfbert.tracking.store import project_root

    path = project_root() / "params.yaml"
    return load(path).publish if path.is_file() else PublishConfig()


def _row(version: RegisteredVersion, aliases: Sequence[str], since: str) -> dict[str, Any]:
    return {
        "version": version.number,
        "aliases": list(aliases),
        "variant": version.variant,
        "metric": version.metric,
        "value": version.value if math.isfinite(version.value) else None,  # JSON has no NaN
        "since": since,
        "why": version.why,
        "forced": version.forced,
        "differences": version.differences,
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
