"""Running a job: claim it, impute, publish the results, and only then mark it done."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vcfbert import __version__
from vcfbert.artifacts import output_error, write_json
from vcfbert.errors import ResourceError, VcfbertError
from vcfbert.genotypes.parsing.process import Parser, Parsers

from ..http.problems import status_of
from ..models.model import Model, ModelSource
from ..storage import own_fault
from ..uploads.chains import Chain
from ..uploads.files import read_qc, without_paths
from .attempt import GRACE_SECONDS, Attempt, ClaimLostError, StoppingError
from .files import JobFiles
from .job import Claim, Job, PinnedModel
from .store import JobTable

log = logging.getLogger(__name__)

_KEPT_MODELS = 2
# A job waits this long after submission for a registry that does not answer.
_REGISTRY_SECONDS = 3600.0


class LoadedModels:
    """Caches the models used last. A job uses the model version that was live at submission."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._models: OrderedDict[str, Model] = OrderedDict()

    def get(self, pinned: PinnedModel) -> Model:
        """The pinned version, loaded. Raises VcfbertError if it cannot be loaded."""
        digest = pinned.version.bundle_digest
        model = self._models.pop(digest, None)
        if model is None:
            while len(self._models) >= _KEPT_MODELS:
                self._models.popitem(last=False)
            model = self._source.load(pinned.version)
        self._models[digest] = model
        return model


class JobRunner:
    """Runs jobs for one worker, one after another.

    ``parsers`` read the uploads. ``chains``: the offered chain files by name. ``check_upload`` raises on uploads that
    the service refuses, and what the given check raises. ``observe`` receives the model's alias, the number of samples
    and the seconds of every finished job.
    """

    def __init__(
        self,
        table: JobTable,
        files: JobFiles,
        models: LoadedModels,
        *,
        worker: str,
        max_seconds: float,
        stale_seconds: float,
        parsers: Parsers,
        chains: Mapping[str, Path],
        check_upload: Callable[[Path, Parser, Callable[[], None]], object],
        observe: Callable[[str, int, float], None],
        end_process: Callable[[], None],
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._table = table
        self._files = files
        self._models = models
        self._worker = worker
        self._max_seconds = max_seconds
        self._stale_seconds = stale_seconds
        self._parsers = parsers
        self._chains = chains
        self._check_upload = check_upload
        self._observe = observe
        self._end_process = end_process
        self._grace_seconds = grace_seconds
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._claim: Claim | None = None

    def stop(self, seconds: float) -> None:
        """Re-queues the running job. If it does not stop within ``seconds``, it is re-queued anyway and the process
        must end."""
        self._stopping.set()
        if not self._idle.wait(seconds) and self._claim is not None:
            self._release(self._claim)

    def run(self, job_id: str) -> None:
        """Runs the queued job whose turn it is, which need not be that of the message. Does nothing if none is queued:
        the message was a duplicate, or its job was cancelled."""
        if self._stopping.is_set():
            return  # housekeeping sends its message again
        taken = self._table.claim_next(self._worker)
        if taken is None:
            return
        self._claim = taken[0]
        self._idle.clear()
        try:
            self._run_claimed(*taken)
        finally:
            self._idle.set()

    def _run_claimed(self, claim: Claim, job: Job) -> None:
        log.info("job %s: attempt %d", job.id, claim.attempt)
        held = True
        try:
            with Attempt(
                self._table,
                claim,
                max_seconds=self._max_seconds,
                stale_seconds=self._stale_seconds,
                stopping=self._stopping,
                end_process=self._end_process,
                grace_seconds=self._grace_seconds,
            ) as attempt:
                qc, summary, seconds = self._impute(claim, job, attempt)
            held = self._table.finish(claim, qc=qc, summary=summary)
            if held:
                self._observe(job.model.alias, summary["n_samples"], seconds)
            log.info("job %s: done in %.1f s", job.id, attempt.seconds)
        except ClaimLostError:
            held = False
        except StoppingError:
            self._release(claim)
            return
        except VcfbertError as error:
            if error.code == "jobs_unreachable":
                # Without a heartbeat the claim becomes stale. The job is then queued again, and this attempt counts.
                log.warning("job %s: the job table does not answer", job.id)
                return
            if error.code == "registry_unavailable" and time.time() - job.created < _REGISTRY_SECONDS:
                self._release(claim)
                return
            held = self._fail(claim, job, error)
        except MemoryError:
            text, hint = "host memory ran out", "send fewer samples at once"
            held = self._fail(claim, job, ResourceError("out_of_memory", text, hint=hint))
        except OSError as error:
            held = self._fail(claim, job, output_error(error, self._files.of(job.id)))
        except Exception as error:
            log.error("job %s: unexpected", job.id, exc_info=error)
            hint = "tell the operator the id of this job; the log has the details"
            held = self._fail(claim, job, ResourceError("internal", "the service failed on this job", hint=hint))
        if held:
            self._files.remove_target(job.id)
        elif self._table.without_files([job.id]):
            self._files.remove(job.id)

    def _impute(self, claim: Claim, job: Job, attempt: Attempt) -> tuple[dict[str, Any], dict[str, Any], float]:
        """Imputes and publishes the results. Returns QC, summary and the seconds that the imputation took."""
        from vcfbert.imputation.files import ImputeOptions

        chain = Chain.named(job.options.get("chain"), self._chains)
        named = {**job.options, "fields": tuple(job.options["fields"]), "chain": chain.file}
        options = ImputeOptions(**named)
        target = self._files.target(job.id)
        with chain.explained(), ExitStack() as opened:
            parser = opened.enter_context(self._parsers.open(target))
            self._check_upload(target, parser, attempt.check)
            model = self._models.get(job.model)
            loaded = attempt.seconds
            working = opened.enter_context(self._files.working_folder(job.id, claim.attempt))
            result, qc_report = working / f"imputed.{options.format}", working / "qc.json"
            try:
                imputed = model.impute(
                    target,
                    result,
                    options,
                    qc_report=qc_report,
                    begin=lambda total: attempt.begin(total, read_qc(qc_report)),
                    progress=attempt.advance,
                    cancelled=attempt.check,
                    parser=parser,
                )
            except VcfbertError:
                # A refused upload has a QC report too.
                self._files.publish(job.id, working, "qc.*")
                raise
            qc, summary = imputed.report.summary(), dict(imputed.summary)
            seconds = attempt.seconds - loaded
            timings = {"load_s": round(loaded, 3), "impute_s": round(seconds, 3)}
            write_json(working / "report.json", _report(job, qc, summary, timings))
            attempt.confirm()
            self._files.publish(job.id, working)
        return qc, summary, seconds

    def _release(self, claim: Claim) -> None:
        log.info("job %s: re-queued", claim.job_id)
        self._table.release(claim)

    def _fail(self, claim: Claim, job: Job, error: VcfbertError) -> bool:
        error = own_fault(error)
        log.info("job %s: failed (%s)", job.id, error.code)
        own = (self._files.target(job.id), job.name, self._files.folder)
        row = {
            "code": error.code,
            "detail": without_paths(error.what, *own) or "the service failed on this job",
            # From 500 on it is a path on this machine, as in the problems of requests.
            "where": without_paths(error.where, *own) if status_of(error) < 500 else None,
            "hint": without_paths(error.hint, *own),
        }
        return self._table.fail(claim, row, qc=read_qc(self._files.qc(job.id)))


def _report(
    job: Job, qc: Mapping[str, Any], summary: Mapping[str, Any], timings: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "size": job.size,
        "vcfbert": __version__,
        "model": job.model.as_json(),
        "options": dict(job.options),
        "timings": dict(timings),
        "qc": dict(qc),
        "summary": dict(summary),
    }
