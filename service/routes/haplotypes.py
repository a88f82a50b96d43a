"""Imputation of haplotypes sent as JSON, for programs without a VCF file."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from vcfbert.errors import InputError
from vcfbert.genotypes.qc import RefusedTargetError, short

from ..http.examples import problems
from ..models.served import Served
from ..uploads.haplotypes import EXAMPLE, Haplotypes, ImputedHaplotypes, genotypes_of
from .deps import Manager, StillWanted

if TYPE_CHECKING:
    from vcfbert.genotypes.panel import Panel
    from vcfbert.genotypes.sites import MatchedTarget

_MAX_BYTES = 20_000_000  # of a request body; parsed JSON takes many times its length in host memory
MAX_CELLS = 2_000_000  # sites x haplotypes of an answer


class _SmallBodies(APIRoute):
    """Refuses bodies longer than ``_MAX_BYTES`` while they arrive."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def counted(request: Request) -> Response:
            received = 0

            async def receive() -> Message:
                nonlocal received
                message = await request.receive()
                received += len(message.get("body", b""))
                if received > _MAX_BYTES:
                    raise HTTPException(413, f"the request body is larger than {_MAX_BYTES} bytes")
                return message

            return await answer(Request(request.scope, receive))

        return counted


router = APIRouter(prefix="/v1", tags=["impute"], route_class=_SmallBodies)


@router.post(
    "/impute/haplotypes",
    summary="Impute haplotypes sent as JSON",
    response_description="sites and dosages",
    response_model=ImputedHaplotypes,
    responses=problems(
        "model_unknown",
        "upload_stalled",
        "too_large",
        "use_jobs",
        "request_invalid",
        "haplotype_length",
        "wrong_build",
        "not_ready",
        "too_slow",
    ),
)
def impute_haplotypes(
    sent: Annotated[
        Haplotypes,
        Body(openapi_examples={"two haplotypes": {"summary": "two haplotypes at two sites", "value": EXAMPLE}}),
    ],
    manager: Manager,
    still_wanted: StillWanted,
) -> Response:
    """Returns the probability of the ALT allele at every panel site for phased haplotypes that are typed at some of
    them. REF and ALT of the response are those of the panel; swapped or strand-flipped sites of the request are
    matched. Sites are in order of position. Typed alleles are returned as sent."""
    from vcfbert.genotypes.sites import match_target
    from vcfbert.imputation.files import ImputeOptions, panel_interval

    served = manager.get(sent.model)
    options = ImputeOptions.parse(region=sent.region, min_dr2=sent.min_dr2)
    panel = _panel(served.imputer.bundle.panels, sent)
    interval = panel_interval(panel, options.region)
    cells = (interval[1] - interval[0]) * len(sent.haplotypes)
    if cells > MAX_CELLS:
        what = f"the response would have {cells} dosages; the maximum is {MAX_CELLS}"
        raise InputError("use_jobs", what, hint="set `region`, send fewer haplotypes, or send a VCF to POST /v1/jobs")
    try:
        matched, report = match_target(genotypes_of(sent, sent.chrom or panel.sites.chrom), panel)
    except RefusedTargetError as error:
        error.more = {"qc": short(error.report.summary())}  # type: ignore[attr-defined]
        raise
    body = {
        "model": {
            "alias": served.alias,
            "version": served.version_name,
            "digest": served.digest,
            "variant": str(served.info["variant"]),
        },
        "chrom": panel.sites.chrom,
        **_imputed(served, panel, matched, interval, options.min_dr2, still_wanted),
        "qc": short(report.summary()),
    }
    return Response(json.dumps(body), media_type="application/json")  # validation by FastAPI would take seconds


def _panel(panels: Sequence[Panel], sent: Haplotypes) -> Panel:
    """Returns the model's panel of the requested chromosome; on X, the panel whose region contains the first site."""
    from vcfbert.genotypes.sex_chromosomes import has_chrom

    chrom = sent.chrom
    if chrom is None:
        if len({panel.region.chrom for panel in panels}) > 1:
            raise InputError(
                "chrom_missing", "the model covers several chromosomes", hint="set `chrom` to that of the haplotypes"
            )
        chrom = panels[0].region.chrom
    candidates = [panel for panel in panels if has_chrom(panel.region, chrom)]
    first = min(site.pos for site in sent.sites)
    # If the model lacks the chromosome, matching raises the error.
    return next((panel for panel in candidates if panel.region.holds(first)), panels[0])


def _imputed(
    served: Served,
    panel: Panel,
    matched: MatchedTarget,
    interval: tuple[int, int],
    min_dr2: float,
    still_wanted: Callable[[], None],
) -> dict[str, Any]:
    """Returns ``sites``, typed or of at least ``min_dr2``, and ``dosages`` [n_haplotypes, sites] of 3 decimals."""
    import numpy as np

    from vcfbert.genotypes.imputed import estimated_r2

    sites: list[dict[str, Any]] = []
    dosages = []
    since = served.device.held_seconds
    with closing(served.imputer.impute(matched, sites=interval, cancelled=still_wanted)) as blocks:
        for block in blocks:
            dosage = np.where(block.calls >= 0, block.calls, block.haplotype_dosage)  # [l, n, 2], the second unused
            dr2 = estimated_r2(dosage, matched.haploid)
            typed = block.typed
            row = np.flatnonzero(typed | (dr2 >= min_dr2))
            dosages.append(dosage[row, :, 0].astype(np.float64))
            for site, known in zip((block.start + row).tolist(), typed[row].tolist(), strict=True):
                pos, ref, alt = int(panel.sites.pos[site]), panel.sites.ref[site], panel.sites.alt[site]
                sites.append({"pos": pos, "ref": ref, "alt": alt, "typed": known})
    served.count(len(matched.samples), since)
    table = np.concatenate(dosages).round(3).T  # [n, sites]
    return {"sites": sites, "dosages": table.tolist()}
