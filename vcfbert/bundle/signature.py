"""Detached Ed25519 signatures of bundles.

``BUNDLE/manifest.json.sig`` holds the 64 bytes of the signature of ``manifest.json``, which holds the sha256 of every
other file. OpenSSL makes the keys and can check the signature too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vcfbert.artifacts import MANIFEST, SIGNATURE, atomic_file
from vcfbert.errors import ArtifactError, InputError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sign_bundle(bundle: Path, private_key: Path) -> Path:
    """Signs the bundle's manifest with the Ed25519 key in a PEM file; returns the signature's path.

    Raises ArtifactError 'bundle_missing', InputError 'signature_key', MissingExtraError.
    """
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_private_key(_read_key(private_key), password=None)
    except (TypeError, ValueError) as error:
        raise _not_a_key(private_key, "private") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _not_a_key(private_key, "private")
    with atomic_file(bundle / SIGNATURE) as temporary:
        temporary.write_bytes(key.sign(_manifest(bundle)))
    return bundle / SIGNATURE


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key in a PEM file. Raises InputError 'signature_key', MissingExtraError."""
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read_key(path))
    except (TypeError, ValueError) as error:
        raise _not_a_key(path, "public") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _not_a_key(path, "public")
    return cast("Ed25519PublicKey", key)


def check_signature(bundle: Path, keys: Sequence[Ed25519PublicKey]) -> None:
    """Raises ArtifactError 'bundle_unsigned', or 'bundle_signature' if none of the keys made the signature."""
    from cryptography.exceptions import InvalidSignature

    signature = bundle / SIGNATURE
    if not signature.is_file():
        raise ArtifactError(
            "bundle_unsigned",
            f"{SIGNATURE} is missing, and only signed bundles are accepted",
            where=str(bundle),
            hint="sign it with `vcfbert bundle sign`, then register or copy it again",
        )
    for key in keys:
        try:
            key.verify(signature.read_bytes(), _manifest(bundle))
            return
        except InvalidSignature:
            continue
    raise ArtifactError(
        "bundle_signature",
        "none of the trusted keys made this bundle's signature",
        where=str(bundle),
        hint="do not use it before you know who changed it; `vcfbert bundle sign` signs it again",
    )


def _manifest(bundle: Path) -> bytes:
    try:
        return (bundle / MANIFEST).read_bytes()
    except OSError as error:
        raise ArtifactError("bundle_missing", f"no bundle here: {MANIFEST} is missing", where=str(bundle)) from error


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"the key cannot be read ({error.strerror})"
        raise InputError("signature_key", what, where=str(path), hint="check the path") from error


def _not_a_key(path: Path, kind: str) -> InputError:
    hint = "make one with `openssl genpkey -algorithm ed25519 -out key.pem`; `openssl pkey -in key.pem -pubout` prints "
    what = f"not an Ed25519 {kind} key in PEM form without a password"
    return InputError("signature_key", what, where=str(path), hint=f"{hint}its public key")


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        hint = "pip install 'vcfbert[sign]'"
        raise MissingExtraError("cryptography_missing", "cryptography is not installed", hint=hint) from error
    return serialization, ed25519
