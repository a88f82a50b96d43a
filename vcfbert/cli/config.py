"""``vcfbert config``: parameter profiles and the check of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_json, say

config_app = typer.Typer(help="Show and apply parameter profiles; check params.yaml.", no_args_is_help=True)

_PROFILE = "Profile: cpu, gpu or original."


@config_app.command("show")
def config_show(profile: Annotated[str, typer.Argument(help=_PROFILE)] = "cpu", as_json: JsonFlag = False) -> None:
    """Print a built-in profile.

    **Example**

    vcfbert config show original
    """
    from vcfbert.config import profile as load_profile
    from vcfbert.config import profile_text

    if as_json:
        print_json(load_profile(profile).as_dict())
    else:
        say(profile_text(profile).rstrip("\n"))


@config_app.command("apply")
def config_apply(
    profile: Annotated[str, typer.Argument(help=_PROFILE)],
    path: Annotated[Path, typer.Option(help="File to write.")] = Path("params.yaml"),
) -> None:
    """Write a built-in profile to params.yaml.

    **Example**

    vcfbert config apply original && dvc repro
    """
    from vcfbert.artifacts import write_text
    from vcfbert.config import profile_text

    write_text(path, profile_text(profile))
    say(f"{path} is now the profile {profile}")


@config_app.command("check")
def config_check(path: Annotated[Path, typer.Argument(help="File to check.")] = Path("params.yaml")) -> None:
    """Check a params.yaml.

    **Example**

    vcfbert config check params.yaml
    """
    from vcfbert.config import load

    load(path)
    say(f"{path}: valid")
