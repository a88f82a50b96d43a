"""``vcfbert remote``: imputes on a service over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcfbert.cli.console import Bar, JsonFlag, print_json, progress_bars, say, tell
from vcfbert.cli.qc import print_summary
from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.client import Client

remote_app = typer.Typer(
    help="Impute on a vcfbert service over HTTP. Requires the extra `client`.", no_args_is_help=True
)

Url = Annotated[str, typer.Option(envvar="VCFBERT_URL", help="Address of the service.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="VCFBERT_KEY", show_envvar=True, help="Access key. Other users of this machine see it in `ps`."
    ),
]
KeyFile = Annotated[Path | None, typer.Option(help="File that holds the access key.")]
Target = Annotated[Path, typer.Option(help="Typed genotypes: VCF, VCF.gz or BCF.")]
ModelName = Annotated[
    str | None, typer.Option(help="Alias or version from `vcfbert remote models`. Default: the service's.")
]
Chain = Annotated[
    str | None,
    typer.Option(help="Chain file of the service, for a target of another genome build. `models --json` lists them."),
]
QcReport = Annotated[Path | None, typer.Option(help="JSON report on the target to write.")]
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
    fields: Annotated[
        str | None, typer.Option(help="FORMAT fields to write, comma-separated, of GT,DS,HDS,GP,GQ.")
    ] = None,
    min_dr2: Annotated[
        float | None, typer.Option(help="Exclude imputed sites whose estimated r2 (DR2) is below this value.")
    ] = None,
    chain: Chain = None,
    qc_report: QcReport = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the job's files on the service.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Impute a target file as a job of the service.

    The command uploads the target, waits for the job, downloads the result with its index, and deletes the job. If it
    is interrupted while it waits, the job continues, and `vcfbert remote fetch` downloads its result.

    **Example**

    vcfbert remote impute --url https://impute.example.org --key-file key --target array.vcf.gz --out imputed.vcf.gz
    """
    from vcfbert.client import format_of

    extension = format_of(out)
    named = fields.split(",") if fields else None
    with _client(url, key, key_file) as client, progress_bars("%") as add_bar:
        with _refusals(qc_report):
            job = client.submit(
                target,
                model=model,
                region=region,
                format=extension,
                fields=named,
                min_dr2=min_dr2,
                chain=chain,
                progress=add_bar("sending").show,
            )
            tell(f"job {job['id']}")
            _wait(client, job["id"], add_bar("imputing"))
        done = _fetch(client, job["id"], out, qc_report, add_bar("fetching"))
        if not keep:
            client.cancel(job["id"])
    if as_json:
        print_json({"out": str(out), "qc": done["qc"], "summary": done["summary"], "model": done["model"]})
    else:
        qc = done["qc"]
        say(f"{qc['n_samples']} samples, {qc['n_used']} of {qc['n_target_sites']} target sites used: {out}")


@remote_app.command()
def fetch(
    job_id: Annotated[str, typer.Argument(help="Job from `vcfbert remote jobs`.")],
    out: Annotated[Path, typer.Option(help="Output: .vcf.gz or .bcf, in the format of the job.")],
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    qc_report: QcReport = None,
) -> None:
    """Wait for a job and download its result.

    **Example**

    vcfbert remote fetch ID --out imputed.vcf.gz
    """
    from vcfbert.client import format_of

    with _client(url, key, key_file) as client, progress_bars("%") as add_bar:
        with _refusals(qc_report):
            job = _wait(client, job_id, add_bar("imputing"))
        if job["options"]["format"] != format_of(out):
            what = f"the result is a {job['options']['format']}"
            raise InputError("option_format", what, where=str(out), hint="give the output that extension")
        _fetch(client, job_id, out, qc_report, add_bar("fetching"))
    say(str(out))


@remote_app.command()
def qc(
    target: Target,
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    model: ModelName = None,
    chain: Chain = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="JSON report to write, with the sites that did not match.")
    ] = None,
) -> None:
    """Check a target against a model's panel without imputing it.

    The exit code is 2 if `vcfbert remote impute` would refuse the target. The report is written in either case.

    **Example**

    vcfbert remote qc --target array.vcf.gz --json qc.json
    """
    with _client(url, key, key_file) as client, progress_bars("%") as add_bar:
        report = client.qc(target, model=model, chain=chain, progress=add_bar("sending").show)
    if json_ is not None:
        _write_report(json_, report)
    print_summary({name: value for name, value in report.items() if name not in ("sites", "refused")})
    if "refused" in report:
        refused = report["refused"]
        raise InputError(refused["code"], refused["detail"], where=refused.get("where"), hint=refused.get("hint"))


@remote_app.command()
def jobs(
    cancel: Annotated[str | None, typer.Option(help="Cancel this job, or delete it if it has ended.")] = None,
    url: Url = LOCAL,
    key: Key = None,
    key_file: KeyFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List your jobs, newest first.

    **Example**

    vcfbert remote jobs --cancel ID
    """
    with _client(url, key, key_file) as client:
        if cancel is not None:
            client.cancel(cancel)
            return
        if as_json:
            print_json(client.jobs())
            return
        for job in client.each_job():
            error = f"  {job['error']['code']}" if job.get("error") else ""
            share = job["progress"]["share"]
            say(f"{job['id']}  {job['created']}  {job['state']:<9} {share:>4.0%}  {job['name']}{error}")


@remote_app.command()
def models(url: Url = LOCAL, key: Key = None, key_file: KeyFile = None, as_json: JsonFlag = False) -> None:
    """List the models of the service.

    **Example**

    vcfbert remote models --url https://impute.example.org
    """
    with _client(url, key, key_file) as client:
        found = client.models()
    if as_json:
        print_json(found)
        return
    for model in found["models"]:
        covered = " ".join(f"{one['chrom']}:{one['from']}-{one['to']}" for one in model.get("regions", ()))
        say(f"{model['alias']}  version {model['version']}  {model.get('variant', '')}  {covered}")
    for model in found["unavailable"]:
        say(f"{model['alias']}  not available: {model['reason']}")


def _client(url: str, key: str | None, key_file: Path | None) -> Client:
    from vcfbert.client import Client

    if key_file is not None:
        try:
            key = key_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise InputError(
                "file_not_found", "the key cannot be read", where=str(key_file), hint="check the path"
            ) from error
    return Client(url, key)


def _wait(client: Client, job_id: str, bar: Bar) -> dict[str, Any]:
    def show(job: dict[str, Any]) -> None:
        bar.show(job["progress"]["done"], job["progress"]["total"] or None)

    return client.wait(job_id, progress=show)


def _fetch(client: Client, job_id: str, out: Path, qc_report: Path | None, bar: Bar) -> dict[str, Any]:
    """Downloads the result and its index, and writes the report. Returns the job."""
    from vcfbert.artifacts import remove_indexes

    job = client.job(job_id)
    client.download(job_id, out, progress=bar.show)
    index = ".tbi" if job["options"]["format"] == "vcf.gz" else ".csi"
    client.download(job_id, out.with_name(out.name + index), what="result/index")
    remove_indexes(out, but=index)
    if qc_report is not None:
        _write_report(qc_report, job["qc"])
    return job


def _write_report(path: Path, report: dict[str, Any]) -> None:
    from vcfbert.artifacts import write_json

    write_json(path, report)


@contextmanager
def _refusals(qc_report: Path | None) -> Iterator[None]:
    """Writes the QC report also of a target that the service refuses."""
    from vcfbert.client import RefusedError

    try:
        yield
    except RefusedError as error:
        if qc_report is not None and error.qc is not None:
            _write_report(qc_report, error.qc)
        raise
