"""Imputation options of a request, from the query or from form fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Form, Query

from vcfbert.errors import InputError

if TYPE_CHECKING:  # torch comes with it, which takes seconds to import
    from vcfbert.imputation.files import ImputeOptions

_MODEL = "alias or version of a served model; the default one if not given"
_REGION = "CHROM:FROM-TO, the sites to write; 1-based, both ends included"
_FORMAT = "vcf.gz or bcf"
_FIELDS = "FORMAT fields to write, comma-separated"
_MIN_DR2 = "imputed sites of a lower DR2 are left out; 0 to 1"


@dataclass(frozen=True)
class RequestedImputation:
    """``model`` is None where the request names none."""

    model: str | None
    options: ImputeOptions


def _request(
    model: Annotated[str | None, Query(description=_MODEL)] = None,
    region: Annotated[str | None, Query(description=_REGION)] = None,
    format: Annotated[str | None, Query(description=_FORMAT)] = None,
    fields: Annotated[str | None, Query(description=_FIELDS)] = None,
    min_dr2: Annotated[str | None, Query(description=_MIN_DR2)] = None,
    form_model: Annotated[str | None, Form(alias="model", description=_MODEL)] = None,
    form_region: Annotated[str | None, Form(alias="region", description=_REGION)] = None,
    form_format: Annotated[str | None, Form(alias="format", description=_FORMAT)] = None,
    form_fields: Annotated[str | None, Form(alias="fields", description=_FIELDS)] = None,
    form_min_dr2: Annotated[str | None, Form(alias="min_dr2", description=_MIN_DR2)] = None,
) -> RequestedImputation:
    """Raises InputError 'option_*'. What is empty is taken for not given: forms send all their fields."""
    from vcfbert.imputation.files import ImputeOptions

    text = form_min_dr2 or min_dr2
    try:
        least = float(text) if text else None
    except ValueError:
        hint = "give a number from 0 to 1"
        raise InputError("option_min_dr2", f"{text!r} is not a DR2", hint=hint) from None
    options = ImputeOptions.parse(
        region=form_region or region, format=form_format or format, fields=form_fields or fields, min_dr2=least
    )
    return RequestedImputation(form_model or model or None, options)


# FastAPI would read the annotation, and with it import torch.
Requested = Annotated[Any, Depends(_request)]
