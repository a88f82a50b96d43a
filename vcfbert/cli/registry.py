"""``vcfbert registry``: lists registered versions of the model and moves the champion's alias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcfbert.cli.console import JsonFlag, print_json, say
from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.config import PublishConfig
    from vcfbert.tracking.registry import RegisteredVersion

registry_app = typer.Typer(help="List, promote and roll back registered versions of the model.", no_args_is_help=True)

Name = Annotated[str | None, typer.Option(help="Registered model. Default: publish.name of params.yaml.")]
Alias = Annotated[str | None, typer.Option(help="Alias of the champion. Default: publish.alias of params.yaml.")]


@registry_app.command("list")
def registry_list(name: Name = None, alias: Alias = None, as_json: JsonFlag = False) -> None:
    """List the versions, newest first.

    Each line shows the aliases, the variant, the promotion metric, and when and why the version got the alias.

    **Example**

    vcfbert registry list --name vcfbert
    """
    from vcfbert.tracking.registry import list_versions

    settings = _settings()
    chosen = alias or settings.alias
    versions = list_versions(name or settings.name)
    if as_json:
        rows = [_row(version, aliases, version.since.get(chosen, "")) for version, aliases in versions]
        print_json(rows)
        return
    if not versions:
        say("no version is registered")
    for version, with_aliases in versions:
        aliases = "".join(f" @{one}" for one in with_aliases)
        figure = f"{version.metric} {version.value:.4f}" if version.metric else "no metric"
        since = f", {version.since[chosen]}" if chosen in version.since else ""
        say(f"{version.number}{aliases}  {version.variant}, {figure}{since}")
        say(f"    {version.why or 'no reason recorded'}")
        if version.differences:
            say(f"    {version.differences}")


@registry_app.command("promote")
def registry_promote(
    version: Annotated[int, typer.Argument(help="Version number.", min=1)],
    name: Name = None,
    alias: Alias = None,
    force: Annotated[
        str,
        typer.Option(
            help="Promote even if the promotion gate refuses. The text is the reason, stored with the version."
        ),
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Give a version the alias if it passes the promotion gate of the `publish` stage.

    The gate requires three things. The version's metric is at least publish.minimum. It is not below the champion's on
    the same data. In no MAF bin is the r2 at the targets worse by more than its confidence interval.

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
        print_json({"version": version, "changed": done.changed, "why": done.version.why, "differences": rows})
    else:
        state = "now" if done.changed else "already"
        say(f"models:/{name}@{chosen} is {state} {done.version.label}: {done.version.why}")


@registry_app.command("rollback")
def registry_rollback(
    reason: Annotated[str, typer.Option(help="Reason, stored with the version that loses the alias.")],
    name: Name = None,
    alias: Alias = None,
    as_json: JsonFlag = False,
) -> None:
    """Return the alias to the version that had it before, without the promotion gate.

    Repeat the command to go back further.

    **Example**

    vcfbert registry rollback --reason regression
    """
    from vcfbert.tracking.promotion import roll_back

    if not reason.strip():
        raise InputError("reason_missing", "--reason is empty", hint="give the reason in a few words")
    settings = _settings()
    chosen, name = alias or settings.alias, name or settings.name
    left, back = roll_back(name, alias=chosen, reason=reason)
    if as_json:
        print_json({"left": left.number, "version": back.number, "why": back.why})
    else:
        say(f"models:/{name}@{chosen} is {back.label} again, no longer {left.label}")


def _settings() -> PublishConfig:
    """Section ``publish`` of the project's params.yaml; the defaults outside a project."""
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
