"""Who has the device, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.models import serialized_imputer
from service.models.serialized_imputer import SerializedImputer
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import settings


class Device:
    """Tells whether it is taken, and for how many targets it was."""

    def __init__(self) -> None:
        self.taken = False
        self.targets: list[int] = []

    @contextmanager
    def __call__(self, n_targets: int) -> Iterator[None]:
        assert not self.taken
        self.taken = True
        self.targets.append(n_targets)
        try:
            yield
        finally:
            self.taken = False


class Imputer:
    """Three blocks, each told when it is predicted."""

    bundle = SimpleNamespace(part=lambda digest: SimpleNamespace(panel=SimpleNamespace(n_sites=100)))

    def __init__(self) -> None:
        self.predicted: list[int] = []

    def impute(self, target: Any, **given: Any) -> Iterator[int]:
        for block in range(3):
            self.predicted.append(block)
            yield block


def shared(samples: int, most: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Imputer, Device, Any]:
    monkeypatch.setattr(serialized_imputer, "_MAX_HELD", most)
    imputer, device = Imputer(), Device()
    turns = SerializedImputer(imputer, device)  # type: ignore[arg-type]
    target = SimpleNamespace(samples=("A",) * samples, panel_digest="")
    return imputer, device, turns.impute(target)  # type: ignore[arg-type]


def test_of_few_samples_the_device_is_free_before_the_first_block_is_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imputer, device, blocks = shared(2, 200, monkeypatch)
    assert not device.taken
    assert next(blocks) == 0
    assert (imputer.predicted, device.taken, device.targets) == ([0, 1, 2], False, [2])
    assert list(blocks) == [1, 2]


def test_of_many_samples_the_device_is_held_and_memory_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    imputer, device, blocks = shared(3, 299, monkeypatch)
    assert next(blocks) == 0
    assert (imputer.predicted, device.taken) == ([0], True)
    assert list(blocks) == [1, 2]
    assert not device.taken


def test_whoever_gives_up_leaves_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _, device, blocks = shared(3, 299, monkeypatch)

    def write() -> None:
        with closing(blocks):
            next(blocks)
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as kept:  # with its traceback, and so the generator
        write()
    assert not device.taken
    assert kept.value.errno == 28


def test_a_file_that_cannot_be_written_leaves_the_device(
    tiny_files: TinyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.models.bundles import BundleModel
    from vcfbert.errors import InputError
    from vcfbert.imputation.files import ImputeOptions

    monkeypatch.setattr(serialized_imputer, "_MAX_HELD", 0)
    model = BundleModel(tiny_files.bundle, settings(tmp_path))
    device = Device()
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as kept:
        model.impute(tiny_files.target, tmp_path / "file" / "out.vcf.gz", ImputeOptions(), on_device=device)
    assert kept.value.code == "output_not_writable"
    assert not device.taken
    model.impute(tiny_files.target, tmp_path / "out.vcf.gz", ImputeOptions(), on_device=device)
    assert device.targets[-1] == 6
