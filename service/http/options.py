"""Imputation options of a request, from the query or from form fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Form, Query

from vcfbert.errors import InputError

if TYPE_CHECKING:  # the module imports torch, which takes seconds
    from vcfbert.imputation.files import ImputeOptions

MODEL = "alias or version of a served model; the default model if omitted"
_REGION = "region to write, as CHROM:FROM-TO; 1-based, both ends included; the whole panel if omitted"
_FORMAT = "`vcf.gz` (default) or `bcf`"
_FIELDS = "FORMAT fields to write, comma-separated, of GT, DS, HDS, GP and GQ; GT,DS,HDS,GP if omitted"
STRICT = "refuse a file with a record that cannot be used, instead of excluding the record"
CHAIN = "name of a chain file from `GET /v1/models`, for a file of another genome build than the panel's"
_MAX_TEXT = 1000  # characters of an option
_MIN_DR2 = "minimum DR2 from 0 to 1: imputed sites below it are excluded; 0 if omitted"


@dataclass(frozen=True)
class RequestedImputation:
    """``model`` is None if the request names none. ``options.chain`` is the name of a chain file, not its path."""

    model: str | None
    options: ImputeOptions


def _request(
    model: Annotated[str | None, Query(description=MODEL)] = None,
    region: Annotated[str | None, Query(description=_REGION)] = None,
    format: Annotated[str | None, Query(description=_FORMAT)] = None,
    fields: Annotated[str | None, Query(description=_FIELDS)] = None,
    min_dr2: Annotated[str | None, Query(description=_MIN_DR2)] = None,
    strict: Annotated[bool | None, Query(description=STRICT)] = None,
    chain: Annotated[str | None, Query(description=CHAIN)] = None,
    form_model: Annotated[str | None, Form(alias="model", description=MODEL)] = None,
    form_region: Annotated[str | None, Form(alias="region", description=_REGION)] = None,
    form_format: Annotated[str | None, Form(alias="format", description=_FORMAT)] = None,
    form_fields: Annotated[str | None, Form(alias="fields", description=_FIELDS)] = None,
    form_min_dr2: Annotated[str | None, Form(alias="min_dr2", description=_MIN_DR2)] = None,
    form_strict: Annotated[bool | None, Form(alias="strict", description=STRICT)] = None,
    form_chain: Annotated[str | None, Form(alias="chain", description=CHAIN)] = None,
) -> RequestedImputation:
    """Returns the options; form fields take precedence over the query. Raises InputError 'option_*'.

    An empty value counts as omitted, because forms send all their fields.
    """
    from vcfbert.imputation.files import ImputeOptions

    given = {
        "region": form_region or region,
        "format": form_format or format,
        "fields": form_fields or fields,
        "chain": form_chain or chain,
        "min_dr2": form_min_dr2 or min_dr2,
        "model": form_model or model,
    }
    for name, value in given.items():
        _check_line(name, value)
    text = given["min_dr2"]
    try:
        min_value = float(text) if text else None
    except ValueError:
        hint = "give a number from 0 to 1"
        raise InputError("option_min_dr2", f"{text!r} is not a number", hint=hint) from None
    options = ImputeOptions.parse(
        region=given["region"],
        format=given["format"],
        fields=given["fields"],
        min_dr2=min_value,
        strict=bool(strict if form_strict is None else form_strict),
        chain=given["chain"],
    )
    return RequestedImputation(given["model"] or None, options)


def _check_line(name: str, text: str | None) -> None:
    """Raises InputError 'request_invalid' for a text that is long or has characters that no option has."""
    shown = text is None or (text.strip().isprintable() and (text.isascii() or name == "chain"))
    if text and (len(text) > _MAX_TEXT or not shown):
        what = f"{name}: this is not a line of at most {_MAX_TEXT} ASCII characters"
        raise InputError("request_invalid", what, hint="see /docs")


# Typed as Any: FastAPI would resolve a precise annotation and import torch.
Requested = Annotated[Any, Depends(_request)]
