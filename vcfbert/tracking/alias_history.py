"""The history of an alias: which versions had it, since when and why.

MLflow itself knows only the present holder. The registered model's tag ``ALIAS_history`` is a JSON list of all holders,
oldest first. A version that got the alias by other means, such as MLflow's own page, is added at the next move.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

Client = Any  # mlflow.MlflowClient; this module does not import mlflow

_MAX_TAG = 4500  # characters; MLflow takes 5000
_MAX_WHY = 300


@dataclass(frozen=True)
class Holder:
    """A version that had the alias. ``since`` is a UTC time, or '' if it is unknown."""

    version: int
    since: str = ""
    why: str = ""


def read_history(client: Client, name: str, alias: str) -> list[Holder]:
    """All holders of the alias, oldest first; the last has it now. Empty if no version has the alias.

    Earlier releases wrote only the tag ``ALIAS_since`` of each version. It is used if the history is missing.
    """
    model = client.get_registered_model(name)
    now = model.aliases.get(alias)
    if now is None:
        return []
    try:
        holders = [Holder(**entry) for entry in json.loads(model.tags[_tag(alias)])]
    except (KeyError, ValueError, TypeError):
        holders = _by_since(client, name, alias)
    if not holders or holders[-1].version != int(now):
        holders.append(Holder(int(now)))
    return holders


def give_alias(client: Client, name: str, alias: str, version: int, why: str) -> None:
    """Gives ``alias`` to ``version`` and records it in the history."""
    holders = read_history(client, name, alias)
    if not holders or holders[-1].version != version:
        holders.append(_now(version, why))
    _move(client, name, alias, holders)


def take_back(client: Client, name: str, alias: str, before: list[Holder], why: str) -> None:
    """Gives ``alias`` back to the last of ``before``; its history then holds these alone."""
    _move(client, name, alias, [*before[:-1], _now(before[-1].version, why)])


def _now(version: int, why: str) -> Holder:
    return Holder(version, datetime.now(UTC).isoformat(timespec="seconds"), why[:_MAX_WHY])


def _move(client: Client, name: str, alias: str, holders: list[Holder]) -> None:
    last = holders[-1]
    while len(text := json.dumps([asdict(holder) for holder in holders])) > _MAX_TAG:
        holders = holders[1:]
    client.set_model_version_tag(name, str(last.version), f"{alias}_since", last.since)
    client.set_registered_model_alias(name, alias, str(last.version))
    # Last: if the process dies before this line, `read_history` adds the version that has the alias.
    client.set_registered_model_tag(name, _tag(alias), text)


def _by_since(client: Client, name: str, alias: str) -> list[Holder]:
    since = f"{alias}_since"
    found = [version for version in client.search_model_versions(f"name = '{name}'") if version.tags.get(since)]
    found.sort(key=lambda version: (version.tags[since], int(version.version)))
    return [Holder(int(version.version), version.tags[since], version.tags.get("why", "")) for version in found]


def _tag(alias: str) -> str:
    return f"{alias}_history"
