"""The model that the service answers with: loaded in the background, ready once it has predicted a window."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from service.settings import Settings
from vcfbert.errors import ResourceError, VcfbertError

log = logging.getLogger(__name__)


class Model(Protocol):
    """A loaded model. ``impute`` is called by one thread at a time."""

    @property
    def info(self) -> Mapping[str, Any]: ...

    def impute(self, target: Path, output: Path) -> Mapping[str, Any]:
        """Writes ``output`` (.vcf.gz) and returns a summary of how the sites matched. Raises VcfbertError."""
        ...


class ModelsManager:
    """Loads the model in a thread, so that the process answers health checks meanwhile."""

    def __init__(self, load: Callable[[], Model]) -> None:
        self._load = load
        self._model: Model | None = None
        self._reason = "the model is being loaded"
        self._busy = threading.Lock()  # a request uses all cores: two at once would only be slower and larger

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="load-model", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            self._model = self._load()
        except VcfbertError as error:
            self._reason = f"the model could not be loaded ({error.code}): {error}"
            log.error("%s", self._reason)
        except Exception:
            self._reason = "the model could not be loaded: see the service's log"
            log.exception("the model could not be loaded")

    @property
    def not_ready(self) -> str | None:
        """Why there is no answer yet; None when there is."""
        return None if self._model is not None else self._reason

    def infos(self) -> list[Mapping[str, Any]]:
        return [] if self._model is None else [self._model.info]

    def impute(self, target: Path, output: Path) -> Mapping[str, Any]:
        """Raises ResourceError('not_ready') before the model is loaded, and what the model raises."""
        if self._model is None:
            raise ResourceError("not_ready", self._reason, hint="ask /readyz and try again")
        with self._busy:
            return self._model.impute(target, output)


class BundleModel:
    """A bundle behind the ``Model`` interface."""

    def __init__(self, settings: Settings) -> None:
        # torch and MLflow take seconds to import: the service answers while the loading thread does that.
        from vcfbert.bundle import load_bundle
        from vcfbert.inference import Imputer
        from vcfbert.registry import resolve
        from vcfbert.tracking import bundle_digest

        folder = resolve(settings.model)
        bundle = load_bundle(folder, device=settings.device)
        self._imputer = Imputer(bundle, batch_size=settings.batch_size)
        self._threads = settings.threads
        self.info = {
            "model": settings.model,
            "variant": bundle.variant,
            "bundle_digest": bundle_digest(folder),
            "panel_digest": bundle.panel.digest,
            "chrom": bundle.panel.sites.chrom,
            "from": int(bundle.panel.sites.pos[0]),
            "to": int(bundle.panel.sites.pos[-1]),
            "n_sites": bundle.panel.n_sites,
            "n_haplotypes": bundle.panel.n_haplotypes,
            "metrics": dict(bundle.manifest["metrics"]),
        }
        self._warm_up()

    def _warm_up(self) -> None:
        """Predicts one window for one of the panel's own samples: the first call allocates and compiles."""
        import numpy as np

        from vcfbert.genotypes.sites import MatchedTarget

        panel, window = self._imputer.bundle.panel, self._imputer.bundle.windows[0]
        site = np.arange(window.start, window.stop, 10)
        alleles = panel.alleles(site, np.array([0, 1])).T[:, None, :].astype(np.int8)  # [m, 1, 2]
        no = np.zeros(len(site), dtype=bool)
        ids = np.full(len(site), ".", dtype=object)
        self._imputer.predict_window(window, MatchedTarget((panel.samples[0],), site, alleles, ~no[:, None], no, ids))

    def impute(self, target: Path, output: Path) -> Mapping[str, Any]:
        from vcfbert.imputation import impute_file

        return impute_file(self._imputer, target, output, threads=self._threads).summary()
