"""Examples of the API documentation: requests, responses and errors. Tests compare them with real responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

Responses = dict[int | str, dict[str, Any]]

JOB_ID: Final = "3f0c9d6b5a0e4a54b9b1f6b1e2a7c8d9"
UPLOAD_ID: Final = "8d1f6c0b7e5542f3a9d0c4b2e6f7a813"

VCF: Final = (
    "##fileformat=VCFv4.2\n"
    "##contig=<ID=20>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tsample1\n"
    "20\t1000156\trs1\tA\tG\t.\t.\t.\tGT\t0|1\n"
)
OPTIONS: Final = {"region": "20:1000000-1500000", "format": "bcf", "fields": "GT,DS,GQ", "min_dr2": "0.3"}

NOTE: Final = {
    "chrom": "20", "pos": 1000100, "id": "rs1", "ref": "A", "alt": "G", "panel_ref": "G", "panel_alt": "A",
    "status": "swapped", "reason": "REF and ALT are exchanged",
}  # fmt: skip
SHORT_QC: Final[dict[str, Any]] = {
    "n_samples": 1, "n_haploid": 0, "n_doubled": 0, "n_target_sites": 520, "n_panel_sites": 24990, "panel_filled": 0.0,
    "n_used": 495,
    "counts": {"matched": 490, "swapped": 5, "not_in_panel": 25}, "n_swapped": 5, "n_flipped": 0,
    "n_shared_positions": 495, "build_agreement": 1.0, "n_half_calls": 0, "missing_rate": 0.001,
    "worst_missing_rate": 0.001, "n_much_missing": 0, "phased_share": 1.0, "overlap_share": 0.951923,
    "typed_per_mb": 165.0, "frequencies": {"n_sites": 495, "correlation": 0.9831, "n_different": 1, "n_mirrored": 1},
    "excluded_records": {"ref_invalid": 2}, "mirrored": [], "lift": {},
}  # fmt: skip
_DIFFERENT: Final = {"chrom": "20", "pos": 1200345, "ref": "A", "alt": "T", "panel": 0.1217, "target": 0.8804}
QC: Final[dict[str, Any]] = {
    **SHORT_QC,
    "density": [{"chrom": "20", "start": 1000000, "stop": 1030000, "typed": 5}],
    "frequencies": {**SHORT_QC["frequencies"], "different": [_DIFFERENT], "cells": [[0.121, 0.133, 4]]},
    "chromosomes": [{"chrom": "20", "from": 1000000, "to": 4000000, "n_used": 495}],
    "absent": {"Y": 12},
}
UPLOAD: Final = {"id": UPLOAD_ID, "name": "array.vcf.gz", "size": 183442, "expires": "2026-03-01T13:00:00Z"}

# Code -> status, detail, where, hint.
PROBLEMS: Final[dict[str, tuple[int, str, str | None, str | None]]] = {
    "unauthorized": (
        401, "the request has no valid access key", None,
        "send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; the operator issues keys",
    ),
    "forbidden": (
        403, "the key 'ann' has no administrator rights", None, "ask the operator to add it to VCFBERT_ADMIN_KEYS",
    ),
    "model_unknown": (404, "no model 'v99' is served", None, "aliases: default; see /v1/models"),
    "job_unknown": (404, "there is no such job", None, "GET /v1/jobs lists yours"),
    "upload_unknown": (
        404, "no kept upload has this id", None,
        "an upload is kept for a limited time after its check: send the file again",
    ),
    "upload_stalled": (
        408, "no data of the request body arrived for 60 seconds", None,
        "send the request again over a faster connection",
    ),
    "not_done": (409, "the job is running", None, "GET /v1/jobs/ID shows its progress or its error"),
    "reload_refused": (
        409, "default: index.faiss differs from its hash (bundle_damaged)", None,
        "the previous version stays in use; see /v1/models",
    ),
    "expired": (410, "the files of this job were deleted at the end of their retention time", None, "submit it again"),
    "too_large": (
        413, "the request body is larger than 200000000 bytes", None,
        "send fewer samples or sites, or ask the operator to raise VCFBERT_MAX_UPLOAD_MB",
    ),
    "too_large_unpacked": (
        413, "the decompressed file is larger than 4000 MB", "array.vcf.gz",
        "send fewer samples (`bcftools view -S SAMPLES`) or fewer sites (`bcftools view -r REGION`)",
    ),
    "too_many_samples": (
        413, "the file has 6000 samples; the maximum is 5000", "array.vcf.gz",
        "send fewer samples (`bcftools view -S SAMPLES`) or fewer sites (`bcftools view -r REGION`)",
    ),
    "too_many_sites": (
        413, "the file has more than 2000000 records, the maximum", "array.vcf.gz",
        "send fewer samples (`bcftools view -S SAMPLES`) or fewer sites (`bcftools view -r REGION`)",
    ),
    "too_many_contigs": (
        413, "the header has 120000 chromosomes; the maximum is 100000", "array.vcf.gz",
        "keep the `##contig` lines of the chromosomes to impute",
    ),
    "too_many_undeclared": (
        413, "more than 1000 chromosomes, filters and keys of records are not in the header", "array.vcf.gz",
        "declare chromosomes by `bcftools reheader --fai`",
    ),
    "too_many_keys": (
        413, "a record has 4000 filters and keys of INFO and FORMAT; the maximum is 1000", "array.vcf.gz",
        "keep the genotypes alone: `bcftools annotate -x FILTER,INFO,^FORMAT/GT`",
    ),
    "header_too_large": (
        413, "the header is longer than 20000000 bytes", "array.vcf.gz",
        "drop lines of the header that nothing needs: `bcftools reheader -h HEADER`",
    ),
    "record_too_large": (
        413, "a record is longer than 20000000 bytes", "array.vcf.gz",
        "keep the genotypes alone: `bcftools annotate -x FILTER,INFO,^FORMAT/GT`",
    ),
    "use_jobs": (
        413, "the file has 800 samples; the maximum of a synchronous request is 500", "array.vcf.gz",
        "send the same request to POST /v1/jobs",
    ),
    "range_invalid": (416, "the range cannot be satisfied", None, None),
    "request_invalid": (422, "body.file: Field required", None, "see /docs"),
    "not_vcf": (
        422, "not a VCF or BCF", "letter.docx",
        "convert it to VCF first, e.g. `plink2 --bfile NAME --export vcf bgz` or `bcftools view`",
    ),
    "truncated": (422, "the file is cut short", "array.vcf.gz", "copy or write it again"),
    "file_unreadable": (
        422, "the file cannot be read behind record 55 (20:1322626): its parser died of SIGSEGV", "array.vcf.gz",
        "`bcftools view` on the file may show what is wrong there",
    ),
    "unsorted_records": (
        422, "positions are not in ascending order", "array.vcf.gz, record 20:1000156", "sort it with `bcftools sort`",
    ),
    "wrong_build": (
        422,
        "alleles differ from the panel's at 17 of 17 shared positions: the target is probably of another genome build "
        "than the panel; its header shows GRCh37",
        "target, chromosome 20",
        "if it is of another genome build, choose a chain file (field `chain`): hg19ToHg38, hs1ToHg38",
    ),
    "unphased": (
        422, "1 of 1 samples have unphased heterozygous calls; this model needs phased ones",
        "target, first at 20:1000156",
        "phase it first, e.g. `beagle gt=TARGET ref=PANEL impute=false out=PHASED` or SHAPEIT5 / Eagle2",
    ),
    "cursor_invalid": (
        422, "this is not the cursor of a page", None,
        "send the member `next` of the page before, or omit it for the first page",
    ),
    "chain_unknown": (422, "no chain file 'hg18' is offered", None, "names: hg19ToHg38, hs1ToHg38; see /v1/models"),
    "option_min_dr2": (422, "'much' is not a number", None, "give a number from 0 to 1"),
    "haplotype_length": (
        422, "the haplotype has 16 alleles for 17 sites", "haplotypes[3]",
        "give 0, 1 or null for each site",
    ),
    "rate_limited": (
        429, "this key sent more than 600 requests within a minute", None,
        "wait for the number of seconds in the Retry-After header",
    ),
    "too_many_requests": (
        429, "this key already has 8 running requests, the maximum", None,
        "wait until one of them ends, or submit a job",
    ),
    "queue_full": (429, "100 jobs are queued, which is the limit", None, "send it again later"),
    "not_ready": (503, "the model is being loaded", None, "ask /readyz and try again"),
    "too_slow": (
        503, "the request did not finish within 3600 seconds", None, "send fewer samples or a smaller region",
    ),
    "jobs_unreachable": (
        503, "the job table cannot be reached (OperationalError)", None,
        "try again; the operator should look at VCFBERT_DATA or VCFBERT_DATABASE_URL",
    ),
    "queue_unreachable": (
        503, "the job queue cannot be reached (ConnectionError)", None,
        "try again; the operator should look at VCFBERT_REDIS_URL or VCFBERT_DATA",
    ),
    "busy": (503, "all threads for jobs are busy", None, "try again; /readyz says what does not answer"),
    "storage_unusable": (
        503, "the service cannot use its data folder (Read-only file system)", None,
        "try again later; the operator should look at VCFBERT_DATA",
    ),
    "disk_full": (
        507, "the output does not fit on the disk (No space left on device)", None,
        "free some space, or write elsewhere",
    ),
}  # fmt: skip
# Errors raised after the file was matched to the panel. Their body has the QC summary.
_WITH_QC: Final = ("wrong_build", "unphased")

# Limits on what a file holds.
FILE_LIMITS: Final = (
    "too_large_unpacked", "header_too_large", "record_too_large", "too_many_samples", "too_many_sites",
    "too_many_contigs", "too_many_undeclared", "too_many_keys",
)  # fmt: skip

_EVERYWHERE: Final = ("unauthorized", "rate_limited", "too_many_requests")
_TEXT: Final = {"type": "string"}
_PROBLEM_SCHEMA: Final = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "code": _TEXT, "detail": _TEXT,
        "where": _TEXT, "hint": _TEXT, "request_id": _TEXT, "qc": {"type": "object"},
    },
}  # fmt: skip


def problem_example(code: str) -> dict[str, Any]:
    """Returns the example body of the error with this code."""
    status, detail, where, hint = PROBLEMS[code]
    body = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail,
        "where": where, "hint": hint, "request_id": "5d0c1f2ab3e44f6a", "qc": SHORT_QC if code in _WITH_QC else None,
    }  # fmt: skip
    return {name: value for name, value in body.items() if value is not None}


def problems(*codes: str) -> Responses:
    """Returns the ``responses`` of a route that needs a key: its errors by status, with an example of each code."""
    by_status: dict[int, list[str]] = {}
    for code in (*_EVERYWHERE, *codes):
        by_status.setdefault(PROBLEMS[code][0], []).append(code)
    return {
        status: {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in there)}",
            "content": {
                "application/problem+json": {
                    "schema": _PROBLEM_SCHEMA,
                    "examples": {
                        code: {"summary": PROBLEMS[code][1], "value": problem_example(code)} for code in there
                    },
                }
            },
        }
        for status, there in sorted(by_status.items())
    }


def answers(**named: tuple[str, Any]) -> dict[str, Any]:
    """Returns the JSON examples of a successful response; each argument is name=(summary, value)."""
    examples = {name: {"summary": summary, "value": value} for name, (summary, value) in named.items()}
    return {"content": {"application/json": {"examples": examples}}}


def form(**named: tuple[str, dict[str, str]]) -> dict[str, Any]:
    """Returns ``openapi_extra`` of a route that accepts a form; each argument is name=(summary, fields)."""
    examples = {name: {"summary": summary, "value": fields} for name, (summary, fields) in named.items()}
    return {"requestBody": {"content": {"multipart/form-data": {"examples": examples}}}}
