"""Who has the device, and for how long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from service.models.bundles import BundleModel
from service.models.device import Device
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import settings
from vcfbert.bundle.load import load_bundle
from vcfbert.errors import InputError
from vcfbert.imputation.files import ImputeOptions
from vcfbert.imputation.imputer import Imputer


def test_held_seconds_count_the_calling_thread_alone() -> None:
    device = Device()

    def hold() -> None:
        with device:
            time.sleep(0.02)

    other = threading.Thread(target=hold)
    other.start()
    other.join(5)
    assert device.held_seconds == 0
    hold()
    first = device.held_seconds
    hold()
    assert 0.02 <= first < device.held_seconds - 0.01


def test_waiting_for_the_device_does_not_count_as_holding_it() -> None:
    device, told = Device(), []

    def wait() -> None:
        with device:
            pass
        told.append(device.held_seconds)

    waiting = threading.Thread(target=wait)
    with device:
        waiting.start()
        time.sleep(0.3)
    waiting.join(5)
    assert told[0] < 0.2


def test_error_inside_leaves_the_device() -> None:
    device = Device()
    with pytest.raises(ZeroDivisionError), device:
        raise ZeroDivisionError
    with device:
        pass
    assert device.held_seconds > 0


def test_bundle_model_holds_the_device_to_warm_up_and_to_impute(tiny_files: TinyFiles, tmp_path: Path) -> None:
    device = Device()
    model = BundleModel(tiny_files.bundle, settings(tmp_path), device_guard=device)
    assert device.held_seconds == 0
    model.warm_up()
    warm = device.held_seconds
    assert warm > 0
    model.impute(tiny_files.target, tmp_path / "out.vcf.gz", ImputeOptions())
    assert device.held_seconds > warm


def test_file_that_cannot_be_written_leaves_the_device(tiny_files: TinyFiles, tmp_path: Path) -> None:
    device = Device()
    model = BundleModel(tiny_files.bundle, settings(tmp_path), device_guard=device)
    model.imputer = Imputer(load_bundle(tiny_files.bundle), device_guard=device, max_held_cells=0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        model.impute(tiny_files.target, tmp_path / "file" / "out.vcf.gz", ImputeOptions())
    assert caught.value.code == "output_not_writable"
    with device:
        pass
    assert model.impute(tiny_files.target, tmp_path / "out.vcf.gz", ImputeOptions()).report.n_samples == 6


def test_model_computes_with_the_threads_of_the_settings(tiny_files: TinyFiles, tmp_path: Path) -> None:
    model = BundleModel(tiny_files.bundle, settings(tmp_path, threads=3))
    assert model.imputer._threads == 3
