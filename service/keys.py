"""Makes an access key: ``python -m service.keys NAME`` prints it and its entry for ``VCFBERT_API_KEYS``."""

from __future__ import annotations

import secrets
import sys

from .http.auth import key_digest
from .settings import parse_keys

_BYTES = 32  # random bytes of a key; at this length a fast hash protects it as well as a slow one


def new_key(name: str) -> tuple[str, str]:
    """Returns a new key and its entry for ``VCFBERT_API_KEYS``. Raises ValueError if the name is invalid."""
    key = f"vb_{secrets.token_urlsafe(_BYTES)}"
    entry = f"{name}:{key_digest(key)}"
    parse_keys(entry)
    return key, entry


def main(arguments: list[str]) -> int:
    """Prints a new key and its entry; returns the exit code."""
    if len(arguments) != 1:
        print(f"usage: python -m {__package__}.keys NAME", file=sys.stderr)
        return 2
    try:
        key, entry = new_key(arguments[0])
    except ValueError:
        print("invalid NAME: use 1 to 64 of letters, digits, `_`, `.` and `-`; `local` is reserved", file=sys.stderr)
        return 2
    print(f"key for its owner (not shown again):\n  {key}")
    print(f"entry for VCFBERT_API_KEYS (separate several entries by commas):\n  {entry}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
