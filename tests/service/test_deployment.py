"""Images, compose.yaml and the documents name what there is."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prometheus_client import generate_latest

from service.app import create_app
from service.settings import Settings
from tests.helpers.service import StubSource, settings
from vcfbert.tracking.model_cache import default_cache

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "reference" / "settings.md", ROOT / "docs" / "how-to" / "deploy.md")
CLIENT = {"VCFBERT_URL", "VCFBERT_KEY"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


def instructions(stage: str) -> list[tuple[str, str]]:
    """Name and arguments of a stage's instructions in the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stages: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages[rest.split()[-1]] = []
        else:
            stages[list(stages)[-1]].append((name, rest.strip()))
    return stages[stage]


def ignored(path: str) -> bool:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    return not any(f"{path.removeprefix('./')}/".startswith(f"{name}/") for name in kept)


def stages() -> dict[str, str]:
    """What each stage of the Dockerfile is built on."""
    found = re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return {name: base for base, name in found}


def test_every_instruction_of_the_images_can_be_carried_out() -> None:
    known = {"ENV", "RUN", "WORKDIR", "COPY", "USER", "CMD", "EXPOSE", "VOLUME", "HEALTHCHECK", "ARG"}
    built: list[str] = []
    assert set(stages()) == {"base", "train", "mlflow", "serve"}
    for stage, base in stages().items():
        assert base in built or re.fullmatch(r"[a-z]+:[\w.-]+", base), "an image without a version"
        built.append(stage)
        for name, rest in instructions(stage):
            assert name in known
            if name == "CMD":
                assert all(isinstance(word, str) for word in json.loads(rest))
            if name == "HEALTHCHECK":
                command = json.loads(rest.partition("CMD ")[2])
                assert command[:2] == ["python", "-c"]
                compile(command[2], "healthcheck", "exec")
            if name == "ENV":
                assert all("=" in pair for pair in shlex.split(rest))
            if name == "RUN":
                assert subprocess.run(["sh", "-nc", rest], check=False).returncode == 0, rest
        assert [rest for name, rest in instructions(stage) if name == "USER"] or stage == "base", "it would run as root"


def test_the_lock_is_installed_before_the_code_is_copied() -> None:
    order = [f"{name} {rest}" for name, rest in instructions("base")]
    assert order.index("RUN pip install -r constraints.txt") < order.index("COPY vcfbert ./vcfbert")
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert all("==" in pin for pin in pins if pin and not pin.startswith("#"))


@pytest.mark.parametrize("stage", ["base", "train", "serve"])
def test_images_copy_what_there_is(stage: str) -> None:
    copied = [source for name, rest in instructions(stage) if name == "COPY" for source in shlex.split(rest)[:-1]]
    assert copied
    assert [source for source in copied if not (ROOT / source).exists() or ignored(source)] == []


def test_the_training_image_has_what_its_stages_read() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    copied = [
        source
        for stage in ("base", "train")
        for name, rest in instructions(stage)
        if name == "COPY"
        for source in shlex.split(rest)[:-1]
    ]
    made = {out if isinstance(out, str) else next(iter(out)) for stage in stages for out in stage.get("outs", [])}
    read = {dep for stage in stages for dep in stage["deps"]}
    for dep in read:
        name = re.fullmatch(r"\$\{(\w+)\.(\w+)\}", dep)
        path = parameters[name[1]][name[2]] if name else dep
        if path.split("/")[0] in ("vcfbert", "pipelines", "data") and path not in made:
            assert any(f"{path}/".startswith(f"{source}/") for source in copied), path


def test_the_image_serves_as_a_user_without_rights_from_its_data_volume() -> None:
    stage = instructions("serve")
    names = [name for name, _ in stage]
    assert ("USER", "vcfbert") in stage
    assert names.index("USER") > names.index("RUN")
    assert names.index("CMD") > names.index("USER")
    assert dict(stage)["CMD"] == '["python", "-m", "service"]'
    assert "/healthz" in dict(stage)["HEALTHCHECK"]
    values = dict(pair.split("=") for pair in shlex.split(dict(stage)["ENV"]))
    folders = [values[name] for name in ("VCFBERT_DATA", "VCFBERT_CACHE", "HOME", "TMPDIR")]
    assert all(folder.startswith(dict(stage)["VOLUME"]) for folder in folders)
    check_names({name for name in values if name.startswith("VCFBERT_")})


def test_compose_hardens_what_it_serves(compose: dict[str, Any]) -> None:
    services = compose["services"]
    targets = {each["build"]["target"] for each in services.values() if "build" in each}
    stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert targets <= set(stages)
    for each in (services["service"], services["worker"]):
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
        assert set(each["depends_on"]) <= set(services)
        check_names({name for name in each["environment"] if name.startswith("VCFBERT_")})
        volume = each["volumes"][0].partition(":")
        assert volume[0] in compose["volumes"]
        assert volume[2] == dict(instructions("serve"))["VOLUME"]
    assert services["worker"]["command"] == ["python", "-m", "service.worker"]
    assert "ports" not in services["worker"]
    for each in services.values():
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", []))


def test_services_of_compose_wait_for_what_there_is(compose: dict[str, Any]) -> None:
    services, text = compose["services"], (ROOT / "compose.yaml").read_text()
    for name, each in services.items():
        assert ("build" in each) != ("image" in each), name
        assert re.search(r":[\w.-]*\d", each.get("image", ":1")), f"{name}: an image without a version"
        needed = each.get("depends_on", {})
        for other in needed:
            assert other in services
            if isinstance(needed, dict) and needed[other]["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"]
        volumes = [volume.partition(":")[0] for volume in each.get("volumes", [])]
        assert set(volumes) <= set(compose["volumes"])
        for value in each.get("environment", {}).values():
            if "://" in str(value):
                assert urlsplit(str(value)).hostname in services, value
    # Every secret is asked for by name where it is missing, once at least.
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"\$\{(\w+):\?", text))
    assert not re.search(r"PASSWORD: (?!\$)", text)


def test_the_stop_leaves_time_to_drain(compose: dict[str, Any]) -> None:
    grace = int(compose["services"]["service"]["stop_grace_period"].removesuffix("s"))
    assert grace >= Settings.model_fields["drain_seconds"].default + 15


def test_the_table_of_settings_is_whole() -> None:
    rows = re.findall(r"^\| `(VCFBERT_\w+)` \| (?:`(.*?)`)? \|", DOCS[0].read_text(), re.MULTILINE)
    written = {name: default for name, default in rows}
    fields = {f"VCFBERT_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert list(written) == list(fields)
    assert len(rows) == len(fields)
    for name, field in fields.items():
        default = field.get_default(call_default_factory=True)
        if name == "VCFBERT_CACHE":
            default = Path("~") / default_cache().relative_to(Path.home())
        told = f"{default:g}" if isinstance(default, float) else str(default)
        assert written[name] == (told.lower() if isinstance(default, bool) else told), name


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.name))
def test_documents_name_settings_that_there_are(path: Path) -> None:
    check_names(set(re.findall(r"VCFBERT_[A-Z_]+", path.read_text())) - CLIENT)


def check_names(names: set[str]) -> None:
    assert names <= {f"VCFBERT_{name.upper()}" for name in Settings.model_fields}


def test_metrics_to_watch_are_all_there_are(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), StubSource())
    metrics = app.state.metrics
    described = {
        line.split()[2] for line in generate_latest(metrics.registry).decode().splitlines() if "# TYPE" in line
    }
    described = {name for name in described if name.startswith("vcfbert_") and not name.endswith("_created")}
    told = set(re.findall(r"`(vcfbert_\w+)", DOCS[1].read_text()))
    assert told == described
