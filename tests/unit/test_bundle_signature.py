from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.helpers.command_line import vcfbert
from vcfbert.artifacts import MANIFEST, SIGNATURE, atomic_folder, read_manifest
from vcfbert.bundle.signature import check_signature, read_public_key, sign_bundle
from vcfbert.errors import ArtifactError, InputError


def write_keys(folder: Path, name: str, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> Path:
    """Writes ``name``.pem and ``name``.pub.pem; returns the first."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(private)
    (folder / f"{name}.pub.pem").write_bytes(public)
    return folder / f"{name}.pem"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "key", ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "bundle", kind="bundle", version=1, manifest={}) as folder:
        (folder / "weights").write_text("weights")
    return tmp_path / "bundle"


def refusal(bundle: Path, *public: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        check_signature(bundle, [read_public_key(path) for path in public])
    return caught.value.code


def test_signed_bundle_passes_and_stays_sound(bundle: Path, key: Path, tmp_path: Path) -> None:
    other = write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    assert sign_bundle(bundle, key) == bundle / SIGNATURE
    trusted = [read_public_key(path.with_suffix(".pub.pem")) for path in (other, key)]
    check_signature(bundle, trusted)  # one of several keys is enough
    read_manifest(bundle, kind="bundle", version=1)


def test_openssl_checks_the_signature(bundle: Path, key: Path) -> None:
    sign_bundle(bundle, key)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key.with_suffix(".pub.pem")), "-rawin"]
    try:
        done = subprocess.run([*command, "-in", MANIFEST, "-sigfile", SIGNATURE], cwd=bundle, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.returncode == 0, done.stderr


def test_unsigned_changed_and_foreign_bundles_are_refused(bundle: Path, key: Path, tmp_path: Path) -> None:
    public = key.with_suffix(".pub.pem")
    assert refusal(bundle, public) == "bundle_unsigned"
    sign_bundle(bundle, write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate()))
    assert refusal(bundle, public) == "bundle_signature"
    sign_bundle(bundle, key)
    assert refusal(bundle) == "bundle_signature"  # no key is trusted
    with (bundle / MANIFEST).open("a") as handle:
        handle.write(" ")
    assert refusal(bundle, public) == "bundle_signature"


@pytest.mark.parametrize("content", ["", "not a key", "another curve", "the other half"])
def test_files_that_hold_no_ed25519_key_are_named(bundle: Path, key: Path, tmp_path: Path, content: str) -> None:
    if content == "another curve":
        private = write_keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
        public = private.with_suffix(".pub.pem")
    elif content == "the other half":
        private, public = key.with_suffix(".pub.pem"), key
    else:
        private = public = tmp_path / "text"
        private.write_text(content)
    for use in (lambda: sign_bundle(bundle, private), lambda: read_public_key(public)):
        with pytest.raises(InputError) as caught:
            use()
        assert caught.value.code == "signature_key"


def test_missing_key_file_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        sign_bundle(bundle, tmp_path / "none.pem")
    assert (caught.value.code, caught.value.where) == ("signature_key", str(tmp_path / "none.pem"))


def test_commands_sign_and_verify(bundle: Path, key: Path) -> None:
    done = vcfbert("bundle", "sign", bundle, "--key", key)
    assert (done.code, (bundle / SIGNATURE).stat().st_size) == (0, 64)
    (bundle / "weights").write_text("changed")
    damaged = vcfbert("bundle", "sign", bundle, "--key", key)
    assert (damaged.code, "bundle_hash" in damaged.err) == (2, True)
    (bundle / SIGNATURE).unlink()
    unsigned = vcfbert("bundle", "verify", bundle, "--key", key.with_suffix(".pub.pem"))
    assert (unsigned.code, "bundle_unsigned" in unsigned.err) == (2, True)
