"""The digests of the data stages' outputs, as DVC recorded them."""

from __future__ import annotations

from pathlib import Path

import yaml

DATA_STAGES = ("prepare", "encode", "embed")


def stage_digests(lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """MD5 of each output of the data stages, by path, from ``dvc.lock``; empty without that file."""
    if not lock.is_file():
        return {}
    stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {})
    outputs = [out for name in DATA_STAGES for out in stages.get(name, {}).get("outs", [])]
    return {f"dvc/{out['path']}": out["md5"] for out in outputs}
