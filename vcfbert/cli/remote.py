"""``vcfbert remote``: imputation by a service. Parses arguments and calls ``vcfbert.client``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from vcfbert.artifacts import write_json
from vcfbert.client import Client, RefusedError, format_of
from vcfbert.errors import InputError

remote_app = typer.Typer(help="Imputation by a service: vcfbert need not be able to impute here.", no_args_is_help=True)
messages = Console(stderr=True)

Url = Annotated[str, typer.Option(envvar="VCFBERT_URL", help="Address of the service.")]
Key = Annotated[
    str | None, typer.Option(envvar="VCFBERT_KEY", show_envvar=True, help="Access key; others see it in `ps`.")
]
KeyFile = Annotated[Path | None, typer.Option(help="A file that holds the access key.")]
Target = Annotated[Path, typer.Option(help="Typed genotypes: VCF, VCF.gz or BCF.")]
ModelName = Annotated[str | None, typer.Option(help="Alias or version, as `models` lists them. Without: the default.")]
QcReport = Annotated[Path | None, typer.Option(help="JSON report of the input.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]
LOCAL = "http://127.0.0.1:8000"


@remote_app.command()
def impute(
    target: Target,
    out: Annotated[Path, typer.Option(help="Output: .vcf.gz or .bcf, indexed.")],
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    model: ModelName = None,
    region: Annotated[str | None, typer.Option(help="CHROM:FROM-TO to write.")] = None,
    fields: Annotated[str | None, typer.Option(help="Of FORMAT, comma-separated: GT,DS,HDS,GP,GQ.")] = None,
    min_dr2: Annotated[float | None, typer.Option(help="Leave out imputed sites of less DR2.")] = None,
    qc_report: QcReport = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the job's files at the service.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Impute a file as a job of the service: sent, waited for, fetched with its index, and removed there.

    Interrupted while it waits, the job goes on: `vcfbert remote fetch` gets its result.

    **Example**

    vcfbert remote impute --url https://impute.example.org --key-file key --target array.vcf.gz --out imputed.vcf.gz
    """
    extension = format_of(out)
    named = fields.split(",") if fields else None
    with _client(url, key, key_file) as client, _bar() as bar:
        with _refusals(qc_report):
            job = client.submit(
                target,
                model=model,
                region=region,
                format=extension,
                fields=named,
                min_dr2=min_dr2,
                progress=bar("sending"),
            )
            messages.print(f"job {job['id']}", highlight=False)
            _wait(client, job["id"], bar("imputing"))
        done = _fetch(client, job["id"], out, qc_report, bar("fetching"))
        if not keep:
            client.cancel(job["id"])
    if as_json:
        _print_json({"out": str(out), "qc": done["qc"], "summary": done["summary"], "model": done["model"]})
    else:
        qc = done["qc"]
        _say(f"{qc['n_samples']} samples, {qc['n_used']} of {qc['n_target_sites']} target sites used: {out}")


@remote_app.command()
def fetch(
    job_id: Annotated[str, typer.Argument(help="As `jobs` lists it.")],
    out: Annotated[Path, typer.Option(help="Where the result goes; .vcf.gz or .bcf as was asked for.")],
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    qc_report: QcReport = None,
) -> None:
    """Wait for a job and fetch its result. Example: vcfbert remote fetch ID --out imputed.vcf.gz"""
    with _client(url, key, key_file) as client, _bar() as bar:
        with _refusals(qc_report):
            job = _wait(client, job_id, bar("imputing"))
        if job["options"]["format"] != format_of(out):
            what = f"the result is a {job['options']['format']}"
            raise InputError("option_format", what, where=str(out), hint="name the output so")
        _fetch(client, job_id, out, qc_report, bar("fetching"))
    _say(str(out))


@remote_app.command()
def qc(
    target: Target,
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    model: ModelName = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="JSON report, with the sites that did not match.")
    ] = None,
) -> None:
    """Check a target against a model's panel without imputing it.

    Exit code 2, after the report, where imputation would be refused.

    **Example**

    vcfbert remote qc --target array.vcf.gz --json qc.json
    """
    with _client(url, key, key_file) as client, _bar() as bar:
        report = client.qc(target, model=model, progress=bar("sending"))
    if json_ is not None:
        write_json(json_, report)
    _print_facts({name: value for name, value in report.items() if name not in ("density", "sites", "refused")})
    if "refused" in report:
        refused = report["refused"]
        raise InputError(refused["code"], refused["detail"], where=refused.get("where"), hint=refused.get("hint"))


@remote_app.command()
def jobs(
    cancel: Annotated[str | None, typer.Option(help="Cancel this job, or forget it if it has ended.")] = None,
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List your jobs, newest first. Example: vcfbert remote jobs --cancel ID"""
    with _client(url, key, key_file) as client:
        if cancel is not None:
            client.cancel(cancel)
            return
        listed = client.jobs()
    if as_json:
        _print_json(listed)
        return
    for job in listed:
        error = f"  {job['error']['code']}" if job["error"] else ""
        _say(f"{job['id']}  {job['created']}  {job['state']:<9} {job['progress']['share']:>4.0%}  {job['name']}{error}")


@remote_app.command()
def models(url: Url = LOCAL, key: Key = None, key_file: KeyFile = None, as_json: JsonFlag = False) -> None:
    """List the models that the service has. Example: vcfbert remote models --url https://impute.example.org"""
    with _client(url, key, key_file) as client:
        found = client.models()
    if as_json:
        _print_json(found)
        return
    for model in found["models"]:
        covered = " ".join(f"{one['chrom']}:{one['from']}-{one['to']}" for one in model.get("regions", ()))
        _say(f"{model['alias']}  version {model['version']}  {model.get('variant', '')}  {covered}")
    for model in found["unavailable"]:
        _say(f"{model['alias']}  not available: {model['reason']}")


def _client(url: str, key: str | None, key_file: Path | None) -> Client:
    if key_file is not None:
        try:
            key = key_file.read_text().strip()
        except (OSError, ValueError) as error:
            hint = "check the path"
            raise InputError("file_not_found", "the key cannot be read", where=str(key_file), hint=hint) from error
    return Client(url, key)


def _wait(client: Client, job_id: str, show: Any) -> dict[str, Any]:
    def told(job: dict[str, Any]) -> None:
        show(job["progress"]["done"], job["progress"]["total"] or None)

    return client.wait(job_id, progress=told)


def _fetch(client: Client, job_id: str, out: Path, qc_report: Path | None, show: Any) -> dict[str, Any]:
    """Result, index and report under their names; the job."""
    job = client.job(job_id)
    client.download(job_id, out, progress=show)
    index = ".tbi" if job["options"]["format"] == "vcf.gz" else ".csi"
    client.download(job_id, out.with_name(out.name + index), what="result/index")
    if qc_report is not None:
        write_json(qc_report, job["qc"])
    return job


@contextmanager
def _refusals(qc_report: Path | None) -> Iterator[None]:
    """Writes the QC report of a target that is refused."""
    try:
        yield
    except RefusedError as error:
        if qc_report is not None and error.qc is not None:
            write_json(qc_report, error.qc)
        raise


@contextmanager
def _bar() -> Iterator[Any]:
    """Progress on standard error, shown on terminals alone: a function from a title to one that sets done and total."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, disable=not messages.is_terminal) as progress:

        def add(title: str) -> Any:
            task = progress.add_task(title, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield add


def _print_facts(facts: dict[str, Any]) -> None:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        text = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        _say(f"{name:<{width}}  {text}")


def _print_json(value: Any) -> None:
    _say(json.dumps(value, indent=1))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
