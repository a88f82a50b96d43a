"""Served models: loads them in the background and replaces them with newer versions while serving."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vcfbert.errors import ArtifactError, InputError, ResourceError, VcfbertError

from ..settings import Settings
from .device import Device
from .fifo_semaphore import FifoSemaphore
from .model import ModelSource
from .served import Served
from .version import ModelVersion, version_name

log = logging.getLogger(__name__)

LOADING = "the model is being loaded"
STALE = "the registry does not answer; a newer version may exist"
# Maximum files in progress: one holds the device while others are read or written. More only used more host memory.
_MAX_AT_ONCE = 3


class ReloadRefusedError(VcfbertError):
    """409: the new version cannot be served; the previous one stays in use."""


@dataclass(frozen=True)
class _State:
    """State of one alias. It is replaced whole, so readers need no lock."""

    served: Served | None = None
    reason: str | None = LOADING  # why no model is served, or why the served one may be old
    stale: bool = False
    refused: ModelVersion | None = None  # a bad version, which the poll does not try again


def _ignore(served: Served, n_samples: int, seconds: float) -> None:
    pass


class ModelsManager:
    """Loads and reloads models in a background thread. Thread-safe.

    ``observe``: receives the model, the number of samples and the device seconds of each imputation.
    """

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        *,
        observe: Callable[[Served, int, float], None] = _ignore,
    ) -> None:
        self._references = settings.references
        self._poll_seconds = settings.poll_seconds
        self._source = source
        self._observe = observe
        self._device, self._places = Device(), FifoSemaphore(_MAX_AT_ONCE)
        self._states = {alias: _State() for alias in self._references}
        self._loading = {alias: threading.Lock() for alias in self._references}
        self._tried_all = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> threading.Thread:
        """Loads the models, then checks for newer versions, in the thread that is returned."""
        thread = threading.Thread(target=self._run, name="models", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Stops polling, and stops running imputations after their current block."""
        self._stopped.set()

    def _run(self) -> None:
        for alias in self._references:
            self._try_update(alias)
        self._tried_all.set()
        while self._poll_seconds and not self._stopped.wait(self._poll_seconds):
            for alias in self._references:
                self._try_update(alias)

    @property
    def not_ready(self) -> str | None:
        """Why the service is not ready; None if it is. It is ready when the default model is served and loading of
        every other model was tried."""
        default = self._states[next(iter(self._references))]
        if default.served is None:
            return default.reason
        return None if self._tried_all.is_set() else LOADING

    def get(self, name: str | None = None) -> Served:
        """The model of that alias or version; the default model if None. Raises InputError 'model_unknown', and
        ResourceError 'not_ready' if it is not loaded."""
        states = self._states
        name = name or next(iter(states))
        if name not in states:
            for state in states.values():
                if state.served is not None and state.served.version_name == name:
                    return state.served
            known = ", ".join(states)
            raise InputError("model_unknown", f"no model {name!r} is served", hint=f"aliases: {known}; see /v1/models")
        served = states[name].served
        if served is None:
            raise ResourceError("not_ready", states[name].reason or LOADING, hint="ask /readyz and try again")
        return served

    def infos(self) -> list[Mapping[str, Any]]:
        """Information on each served model, the default one first."""
        served = [(state, state.served) for state in self._states.values()]
        return [
            {**model.info, "stale": state.stale, **({"reason": state.reason} if state.reason else {})}
            for state, model in served
            if model is not None
        ]

    def unavailable(self) -> list[Mapping[str, Any]]:
        """The models that could not be served, with the reason."""
        return [
            {"alias": alias, "reference": self._references[alias], "reason": state.reason}
            for alias, state in self._states.items()
            if state.served is None
        ]

    def reload(self, alias: str | None = None) -> dict[str, Any]:
        """Looks for newer versions, of ``alias`` or of all, and serves each after it has imputed once.

        Runs in the caller's thread. Raises InputError 'model_unknown', and ReloadRefusedError if a version is bad: its
        alias keeps the previous version, and the other aliases are still reloaded.
        """
        if alias is not None and alias not in self._states:
            raise InputError(
                "model_unknown", f"no model {alias!r} is served", hint=f"aliases: {', '.join(self._states)}"
            )
        done, refusals = [], []
        for name in self._references if alias is None else (alias,):
            before = self._states[name].served
            try:
                after = self._update(name, again=True)
            except VcfbertError as error:
                refusals.append(f"{name}: {error.what} ({error.code})")
                continue
            changed = before is None or before.version != after.version
            done.append(
                {
                    "alias": name,
                    "changed": changed,
                    "version": after.version_name,
                    "before": None if before is None else before.version_name,
                }
            )
        if refusals:
            raise ReloadRefusedError(
                "reload_refused", "; ".join(refusals), hint="the previous version stays in use; see /v1/models"
            )
        return {"models": done}

    def _try_update(self, alias: str) -> None:
        """Updates an alias. A failure is logged and kept as the reason."""
        try:
            self._update(alias, again=False)
        except VcfbertError as error:
            log.error("model %s: %s (%s)", alias, error.what, error.code)

    def _update(self, alias: str, *, again: bool) -> Served:
        """Serves the version that the alias's reference names now.

        ``again``: also try a version that was refused before. Raises VcfbertError; the alias then keeps its model, and
        the error as its reason.
        """
        reference = self._references[alias]
        with self._loading[alias]:
            state = self._states[alias]
            stale = None
            try:
                found = self._source.find(reference)
            except VcfbertError as error:
                cached = state.served.version if state.served else self._source.find_cached(reference)
                if error.code not in ("registry_unavailable", "no_tracking_store") or cached is None or again:
                    self._failed(alias, error)
                    raise
                found, stale = cached, f"{STALE}: {error.what}"
            if state.served is not None and state.served.version == found:
                served = state.served
            elif found == state.refused and not again and state.served is not None:
                return state.served
            else:
                served = self._load(alias, found)
            self._states[alias] = _State(served, reason=stale, stale=stale is not None)
            if served is not state.served:
                log.info("model %s: version %s is served", alias, version_name(found))
            return served

    def _load(self, alias: str, found: ModelVersion) -> Served:
        try:
            model = self._source.load(found, self._device)
            model.warm_up()
        except VcfbertError as error:
            self._failed(alias, error, found)
            raise
        except Exception as error:
            log.exception("model %s", alias)
            failure = ResourceError("model_failed", "the model could not be loaded; see the log of the service")
            self._failed(alias, failure, found)
            raise failure from error
        return Served(
            alias, self._references[alias], found, model, self._device, self._places, self._observe, self._stopped
        )

    def _failed(self, alias: str, error: VcfbertError, found: ModelVersion | None = None) -> None:
        state = self._states[alias]
        # A version that could not be fetched may be available later; a damaged one stays damaged.
        refused = found if isinstance(error, InputError) or error.code == "model_failed" else state.refused
        if state.served is None:
            reason: str | None = f"the model could not be loaded ({error.code}): {error}"
        else:
            reason = f"a newer version was refused ({error.code}): {error.what}" if found else state.reason
            if not found and isinstance(error, ArtifactError):
                reason = f"its files were changed, and the version from before is served ({error.code}): {error.what}"
        self._states[alias] = dataclasses.replace(state, reason=reason, refused=refused)
