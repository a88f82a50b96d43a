"""A new access key: ``python -m service.keys NAME`` prints it and the line for ``VCFBERT_API_KEYS``."""

from __future__ import annotations

import secrets
import sys

from .http.auth import key_digest
from .settings import parse_keys

_BYTES = 32  # of randomness: too many to be guessed, so a plain hash keeps it as well as a slow one


def new_key(name: str) -> tuple[str, str]:
    """The key, and its entry for the settings. Raises ValueError on a name that they cannot take."""
    key = f"vb_{secrets.token_urlsafe(_BYTES)}"
    entry = f"{name}:{key_digest(key)}"
    parse_keys(entry)
    return key, entry


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m service.keys NAME", file=sys.stderr)
        return 2
    try:
        key, entry = new_key(arguments[0])
    except ValueError:
        print("a name has letters, digits, _ . - and at most 64 of them, and is not 'local'", file=sys.stderr)
        return 2
    print(f"key, for its owner alone; it is shown once:\n  {key}")
    print(f"entry for VCFBERT_API_KEYS, several separated by commas:\n  {entry}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
