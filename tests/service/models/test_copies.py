"""Served bundles whose files change on disk: the service notices, refuses, and answers as before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.models import copies
from service.models.bundles import BundleSource
from service.models.copies import PrivateCopies
from service.models.manager import ModelsManager, ReloadRefusedError
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import settings
from tests.service.jobs.test_processes import service_at
from vcfbert.artifacts import MANIFEST, atomic_folder, bundle_digest
from vcfbert.errors import ArtifactError, InputError

WEIGHTS = "panel/weights"


def write_bundle(path: Path, text: str = "weights") -> Path:
    with atomic_folder(path, kind="bundle", version=5, manifest={}) as folder:
        (folder / WEIGHTS).parent.mkdir()
        (folder / WEIGHTS).write_text(text)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_copy_is_private_and_keeps_its_content(tmp_path: Path, bundle: Path) -> None:
    copy = PrivateCopies(tmp_path / "data").open(bundle_digest(bundle), lambda: bundle)
    (bundle / WEIGHTS).write_text("changed")
    assert (copy.folder / WEIGHTS).read_text() == "weights"
    assert copy.folder.stat().st_mode & 0o777 == 0o700
    assert (copy.folder / WEIGHTS).stat().st_mode & 0o777 == 0o400
    assert not os.path.samefile(copy.folder / WEIGHTS, bundle / WEIGHTS)


def test_copy_is_made_once_and_again_only_if_damaged(tmp_path: Path, bundle: Path) -> None:
    digest, made = bundle_digest(bundle), []

    def source() -> Path:
        made.append(1)
        return bundle

    held = [PrivateCopies(tmp_path / "data").open(digest, source) for _ in range(2)]
    assert len(made) == 1
    damaged = held[0].folder / WEIGHTS
    damaged.chmod(0o600)
    damaged.write_text("damaged")
    again = PrivateCopies(tmp_path / "data").open(digest, source)
    assert ((again.folder / WEIGHTS).read_text(), len(made)) == ("weights", 2)


def test_copies_that_nobody_uses_are_removed(tmp_path: Path, bundle: Path) -> None:
    ours = PrivateCopies(tmp_path / "data")
    first = ours.open(bundle_digest(bundle), lambda: bundle)
    abandoned = first.folder.parent / ".abc.tmp"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    other = write_bundle(tmp_path / "other", "other")
    second = ours.open(bundle_digest(other), lambda: other)
    assert first.folder.is_dir()  # in use
    old = first.folder
    del first
    ours.open(bundle_digest(other), lambda: other)
    assert sorted(second.folder.parent.iterdir()) == [second.folder]
    assert not old.exists()


def test_damaged_source_and_unwritable_folder_are_named(tmp_path: Path, bundle: Path) -> None:
    digest = bundle_digest(bundle)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        PrivateCopies(tmp_path / "file").open(digest, lambda: bundle)
    assert caught.value.code == "output_not_writable"
    (bundle / WEIGHTS).write_text("damaged")
    with pytest.raises(ArtifactError) as damaged:
        PrivateCopies(tmp_path / "data").open(digest, lambda: bundle)
    assert (damaged.value.code, damaged.value.where) == ("bundle_hash", str(bundle))
    assert list((tmp_path / "data" / "models").iterdir()) == []


@pytest.mark.parametrize("digest", ["", "..", "../../x", "A" * 64])
def test_text_that_is_no_digest_names_no_folder(tmp_path: Path, bundle: Path, digest: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        PrivateCopies(tmp_path / "data").open(digest, lambda: bundle)
    assert caught.value.code == "bundle_hash"


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "panel/../../outside"])
def test_manifest_that_lists_files_of_other_folders_is_refused(tmp_path: Path, bundle: Path, name: str) -> None:
    (tmp_path / "outside").write_text("secret")
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][name] = "0" * 64
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError) as caught:
        PrivateCopies(tmp_path / "data").open(bundle_digest(bundle), lambda: bundle)
    assert caught.value.code == "bundle_damaged"


def test_file_system_without_locks_keeps_all_copies(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(copies.fcntl, "flock", no_locks)
    ours = PrivateCopies(tmp_path / "data")
    other = write_bundle(tmp_path / "other", "other")
    for each in (bundle, other):
        ours.open(bundle_digest(each), lambda each=each: each)  # type: ignore[misc]
    assert len(list((tmp_path / "data" / "models").iterdir())) == 2


@pytest.mark.integration
def test_processes_that_open_a_copy_at_once_all_get_it(tmp_path: Path, bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.models.copies import PrivateCopies\n"
        "for _ in range(20):\n"
        "    for each in sys.argv[2:]:\n"
        "        from vcfbert.artifacts import bundle_digest\n"
        "        b = Path(each); c = PrivateCopies(Path(sys.argv[1])).open(bundle_digest(b), lambda: b)\n"
        f"        assert (c.folder / '{WEIGHTS}').read_text() in ('weights', 'other')\n"
    )
    other = write_bundle(tmp_path / "other", "other")
    command = [sys.executable, "-c", code, str(tmp_path / "data"), str(bundle), str(other)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1][-500:], process.returncode) for process in running] == [("", 0)] * 3


@pytest.mark.integration
def test_reload_names_a_changed_bundle_and_recovers(tmp_path: Path, tiny_files: TinyFiles) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_files.fitted("v19"), folder)
    ours = settings(tmp_path, model=str(folder))
    manager = ModelsManager(ours, BundleSource(ours))
    manager.start().join(60)
    before, weights = manager.get(), folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ReloadRefusedError, match=r"weights\.safetensors.*bundle_hash"):
        manager.reload()
    assert manager.get() is before
    assert "its files were changed" in manager.infos()[0]["reason"]
    weights.write_bytes(content)
    assert manager.reload()["models"][0]["changed"] is False
    assert "reason" not in manager.infos()[0]


@pytest.mark.integration
@pytest.mark.parametrize("variant", ["v18", "v19"])
def test_truncated_bundle_neither_ends_the_service_nor_changes_answers(
    tmp_path: Path, tiny_files: TinyFiles, variant: str
) -> None:
    folder, upload = tmp_path / "bundle", tiny_files.target.read_bytes()
    shutil.copytree(tiny_files.fitted(variant), folder)
    values = {"MODEL": str(folder), "THREADS": "1", "KEPT_WINDOWS_MB": "0", "EMBEDDED_WORKER": "false"}
    with service_at(tmp_path / "data", module="service", **values) as service:

        def impute() -> bytes:
            answer = service.client.post("/v1/impute", files={"file": ("mine.vcf", upload)})
            assert answer.status_code == 200, answer.text
            return answer.content

        before = impute()
        for path in folder.rglob("*"):
            if path.is_file() and path.name != MANIFEST:
                os.truncate(path, 0)
        assert impute() == before
        reloaded = service.client.post("/v1/models/reload")
        assert (reloaded.status_code, reloaded.json()["code"]) == (409, "reload_refused")
        assert service.client.get("/readyz").status_code == 200


@pytest.mark.integration
def test_only_signed_bundles_are_served_if_keys_are_set(tmp_path: Path, tiny_files: TinyFiles) -> None:
    from tests.unit.test_bundle_signature import ed25519, write_keys
    from vcfbert.bundle.signature import sign_bundle

    key = write_keys(tmp_path, "key", ed25519.Ed25519PrivateKey.generate())
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_files.fitted("v19"), folder)
    ours = settings(tmp_path, model=str(folder), bundle_keys=str(key.with_suffix(".pub.pem")))
    manager = ModelsManager(ours, BundleSource(ours))
    manager.start().join(60)
    assert "bundle_unsigned" in (manager.not_ready or "")
    sign_bundle(folder, key)
    manager.reload()
    assert manager.not_ready is None
