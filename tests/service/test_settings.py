from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.__main__ import main as start
from service.app import uvicorn_host
from service.keys import main, new_key
from service.settings import Settings, check_exposure, is_loopback, read_settings
from tests.helpers.service import API_KEYS
from vcfbert.errors import InputError


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCFBERT_MODEL", "models/v17")
    monkeypatch.setenv("VCFBERT_MAX_UPLOAD_MB", "3")
    monkeypatch.setenv("VCFBERT_DATA", "")  # as compose files leave what is not set
    settings = read_settings()
    assert (settings.model, settings.max_upload_bytes, settings.data) == ("models/v17", 3_000_000, Path("data/service"))


def test_models_setting_gives_references_by_alias() -> None:
    settings = Settings(model="a", models="chr21=models:/c@champion, old = /bundles/v17")
    assert settings.references == {"default": "a", "chr21": "models:/c@champion", "old": "/bundles/v17"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MODELS", "chr21", "'chr21' is not alias=reference"),
        ("MODELS", "a=x,a=y", "'a' appears twice"),
        ("MODELS", "default=x", "'default' appears twice"),
        ("MODELS", "1=x", "is not alias=reference"),
        ("CHAINS", "hg19", "'hg19' is not name=path"),
        ("CHAINS", f"a={__file__},a={__file__}", "'a' appears twice"),
        ("CHAINS", "hg19=/no/such.chain", "there is no file of hg19"),
        ("API_KEYS", "ann:abc", "entry 1 is not name:sha256"),
        ("API_KEYS", f"local:{'a' * 64}", "'local' is reserved"),
        ("API_KEYS", f"a:{'a' * 64},a:{'b' * 64}", "the name 'a' appears twice"),
        ("ADMIN_KEYS", "eve", "admin_keys names eve"),
        ("CORS_ORIGINS", "*", "'*' is not an origin"),
        ("DEVICE", "tpu", "VCFBERT_DEVICE"),
        ("BATCH_SIZE", "0", "VCFBERT_BATCH_SIZE"),
        ("PORT", "http", "VCFBERT_PORT"),
        ("REDIS_URL", "http://h", "VCFBERT_REDIS_URL: write redis://"),
        ("REDIS_URL", "redis://h:port", "VCFBERT_REDIS_URL: write redis://"),
        ("REDIS_URL", "redis://h?no_option=1", "VCFBERT_REDIS_URL: write redis://"),
    ],
)
def test_invalid_setting_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"VCFBERT_{name}", value)
    with pytest.raises(InputError) as caught:
        read_settings()
    assert caught.value.code == "settings"
    assert words in caught.value.what


def test_secrets_are_absent_from_repr_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"api_keys": API_KEYS, "database_url": "postgresql://u:hidden@h/d", "redis_url": "redis://:hidden@h"}
    assert "hidden" not in repr(Settings(**secrets))
    assert API_KEYS[:20] not in repr(Settings(**secrets))
    monkeypatch.setenv("VCFBERT_API_KEYS", "ann:the-key-itself")
    with pytest.raises(InputError) as caught:
        read_settings()
    assert "the-key-itself" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().model = "other"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.4", "example.org", "", "::ffff:10.0.0.1"])
def test_other_interface_needs_keys_or_open(host: str) -> None:
    with pytest.raises(InputError) as caught:
        check_exposure(Settings(), host)
    assert caught.value.code == "open_service"
    check_exposure(Settings(open=True), host)
    check_exposure(Settings(api_keys=API_KEYS), host)


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["/v/bin/uvicorn", "service.app:app"], "127.0.0.1"),
        (["/v/bin/uvicorn", "service.app:app", "--host", "0.0.0.0"], "0.0.0.0"),
        (["/v/site-packages/uvicorn/__main__.py", "--host=::", "service.app:app"], "::"),
        (["/v/bin/uvicorn", "service.app:app", "--uds", "/run/s", "--host", "0.0.0.0"], "127.0.0.1"),
        (["/v/bin/pytest", "--host", "0.0.0.0"], "127.0.0.1"),
    ],
)
def test_host_is_read_from_the_uvicorn_command_line(arguments: list[str], host: str) -> None:
    assert uvicorn_host(arguments) == host


def test_new_key_entry_is_a_valid_setting(capsys: pytest.CaptureFixture[str]) -> None:
    key, entry = new_key("ann")
    assert Settings(api_keys=entry).keys.keys() == {"ann"}
    assert key not in entry
    assert new_key("ann")[0] != key
    assert main(["ann"]) == 0
    assert "ann:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["local"], ["a,b"], ["a:b"], ["a b"]])
def test_new_key_with_invalid_name_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "key" not in capsys.readouterr().out


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports on which the service would listen; no server runs and no log is configured."""
    ports: list[int] = []
    monkeypatch.setattr("uvicorn.run", lambda *_, port, **__: ports.append(port))
    monkeypatch.setattr("service.http.logs.configure", lambda *_: None)
    return ports


def test_service_with_an_unwritable_data_folder_does_not_start(
    started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VCFBERT_DATA", str(tmp_path / "file"))
    assert start() == 2
    assert f"error [output_not_writable] {tmp_path / 'file'}: cannot write here" in capsys.readouterr().err
    assert started == []


def test_service_on_an_address_that_it_cannot_listen_on_does_not_start(
    started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VCFBERT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VCFBERT_API_KEYS", f"ann:{'0' * 64}")
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        monkeypatch.setenv("VCFBERT_PORT", str(port))
        assert start() == 2
    told = capsys.readouterr().err
    assert f"error [address_unavailable] the service cannot listen on 127.0.0.1, port {port}" in told
    assert "in use" in told
    assert "hint: " in told
    for host in ("192.0.2.1", "no such host", "x" * 70):  # the first is of no machine
        monkeypatch.setenv("VCFBERT_HOST", host)
        assert start() == 2
        assert "error [address_unavailable]" in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nothing"),
        ("DATABASE_URL", "foo://x:secret@y/z"),
        ("DATABASE_URL", "postgresql+psycopg://u:secret@127.0.0.1:1/x"),
        ("DRAIN_SECONDS", "inf"),
        ("POLL_SECONDS", "1e12"),
        ("MAX_UPLOAD_MB", "9" * 30),
    ],
)
def test_service_with_a_bad_setting_does_not_start(
    started: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv("VCFBERT_DATA", str(tmp_path))
    monkeypatch.setenv("VCFBERT_PORT", "0")
    monkeypatch.setenv(f"VCFBERT_{name}", value)
    assert start() == (3 if "psycopg" in value else 2)
    told = capsys.readouterr().err
    assert told.startswith("error [")
    assert "secret" not in told
    assert "Traceback" not in told
    assert started == []


def test_service_on_a_free_address_starts(started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCFBERT_DATA", str(tmp_path / "data"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("VCFBERT_PORT", str(port))
    assert start() == 0
    assert started == [port]
