"""VCF Zarr with hostile codecs, metadata and zip entries."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from tests.helpers.vcf_text import vcf_text, write_vcf
from tests.unit.genotypes.test_vcf_zarr import RECORDS, convert
from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import read_genotypes
from vcfbert.genotypes.vcf_zarr import ZarrRecords


@pytest.fixture(scope="module", params=[2, 3])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vcz")
    return convert(write_vcf(folder / "t.vcf.gz", vcf_text(RECORDS), index=True), folder / "t.vcz", request.param)


@pytest.fixture
def vcz(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "t.vcz")


def read_all(path: Path) -> None:
    """Reads what an imputation reads, in this process."""
    records = ZarrRecords(path)
    records.header()
    records.chromosomes()
    records.length_of("20")
    for record in records.records(Region("20")):
        record.genotype.array()
        record.INFO.get("AF")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_all(path)
    assert caught.value.where == str(path)
    return caught.value.code


def write_array(group: Path, name: str, values: Any, **options: Any) -> None:
    store = zarr.open_group(str(group), mode="r+")
    old = store[name]
    shutil.rmtree(group / name)
    array = store.create_array(name, shape=np.shape(values), dtype=options.pop("dtype", old.dtype), **options)
    array[...] = values


class Dangerous:
    """Leaves a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_pickle_codec_is_refused_before_it_decodes(sound: Path, vcz: Path, tmp_path: Path) -> None:
    if zarr.open_group(str(sound)).metadata.zarr_format == 3:
        pytest.skip("format 3 names numcodecs' codecs otherwise")
    trace = tmp_path / "ran"
    metadata = json.loads((vcz / "sample_id" / ".zarray").read_text())
    metadata |= {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}], "compressor": None, "fill_value": None}
    (vcz / "sample_id" / ".zarray").write_text(json.dumps(metadata))
    (vcz / ".zmetadata").unlink(missing_ok=True)
    content = numcodecs.Pickle().encode(np.array([Dangerous(trace)] * 4, dtype=object))
    for chunk in (vcz / "sample_id").glob("[0-9]*"):
        chunk.write_bytes(content)
    assert refusal(vcz) in ("zarr_codec", "not_vcf")  # zarr may refuse it first
    assert not trace.exists()


@pytest.mark.parametrize("codec", ["pickle", "json2", "msgpack2", "numcodecs.pickle", "unknown", "../x"])
def test_codec_outside_the_list_is_refused(vcz: Path, codec: str) -> None:
    entry = vcz / "variant_position" / ".zarray"
    if entry.is_file():
        metadata = json.loads(entry.read_text()) | {"filters": [{"id": codec}]}
        (vcz / ".zmetadata").unlink(missing_ok=True)
    else:
        entry = vcz / "variant_position" / "zarr.json"
        metadata = json.loads(entry.read_text())
        metadata["codecs"].append({"name": codec, "configuration": {}})
        group = json.loads((vcz / "zarr.json").read_text())
        (vcz / "zarr.json").write_text(json.dumps(group | {"consolidated_metadata": None}))
    entry.write_text(json.dumps(metadata))
    assert refusal(vcz) in ("zarr_codec", "not_vcf")


def test_codecs_inside_of_shards_are_checked_too() -> None:
    from vcfbert.genotypes.zarr_checks import codec_names

    inner = {"name": "numcodecs.pickle", "configuration": {}}
    sharded = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "bytes"}, inner], "index_codecs": []}}
    assert list(codec_names({"codecs": [sharded]})) == ["sharding_indexed", "bytes", "pickle"]


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("sample_id", ["A", "B", "C"], {}),
        ("sample_id", ["A", "B", "C", "D\nE"], {}),
        ("sample_id", [1, 2, 3, 4], {"dtype": "i4"}),
        ("contig_id", ["20\t1"], {}),
        ("variant_contig", [0, 0, 0, 0, 0, 7], {}),
        ("variant_contig", [0, 0, 0, 0, 0, -1], {}),
        ("variant_contig", [0, 0], {}),
        ("variant_position", [0.5] * 6, {"dtype": "f4"}),
        ("variant_position", [[1]] * 6, {}),
        ("variant_id", ["rs1\n20\t1"] * 6, {}),
        ("call_genotype", np.zeros((6, 3, 2)), {}),
        ("call_genotype_phased", np.zeros((5, 4), dtype=bool), {}),
        ("region_index", [[9, 0, 1, 500, 500, 6]], {}),
        ("region_index", [[0, 0]], {}),
    ],
)
def test_arrays_that_do_not_fit_are_refused(vcz: Path, name: str, values: Any, options: dict[str, Any]) -> None:
    write_array(vcz, name, values, **options)
    assert refusal(vcz) == "not_vcf"


def test_chunks_of_terabytes_are_refused_before_they_are_read(vcz: Path) -> None:
    entry = next(path for path in (vcz / "sample_id" / ".zarray", vcz / "sample_id" / "zarr.json") if path.is_file())
    for path in (entry, vcz / ".zmetadata", vcz / "zarr.json"):
        if path.is_file():
            path.write_text(path.read_text().replace('"consolidated_metadata"', '"unused"'))
    (vcz / ".zmetadata").unlink(missing_ok=True)
    metadata = json.loads(entry.read_text()) | {"shape": [10**12]}
    entry.write_text(json.dumps(metadata))
    assert refusal(vcz) == "not_vcf"


@pytest.mark.parametrize("fault", ["bomb", "two of one name", "cut", "directory cut"])
def test_hostile_zip_files_are_refused(vcz: Path, tmp_path: Path, fault: str) -> None:
    out = tmp_path / "t.zip"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(vcz.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(vcz))
        if fault == "bomb":
            archive.writestr("variant_AF/.zarray", bytes(65_000_000))
        if fault == "two of one name":
            archive.writestr("sample_id/x", "{}")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("sample_id/x", "[]")
    if "cut" in fault:
        content = out.read_bytes()
        out.write_bytes(content[: len(content) // 2] if fault == "cut" else content[:-30])
    assert refusal(out) == "not_vcf"


def changed(value: Any, draw: random.Random) -> Any:
    """The value with one part replaced by another kind of value."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        return {**value, key: changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], changed(value[place], draw), *value[place + 1 :]]
    return draw.choice([None, -1, 0, 10**9, 10**30, 1.5, "", "x", "|O", [], {}, [[]], {"id": "pickle"}, True])


@pytest.mark.integration
def test_changed_metadata_is_read_or_refused(sound: Path, tmp_path: Path) -> None:
    draw = random.Random(7)
    entries = [p.relative_to(sound) for p in sorted(sound.rglob("*")) if p.name.startswith((".z", "zarr.json"))]
    n_read, n_changes = 0, 120
    for number in range(n_changes):
        folder = shutil.copytree(sound, tmp_path / str(number))
        entry = folder / draw.choice(entries)
        if draw.random() < 0.7:
            (folder / ".zmetadata").unlink(missing_ok=True)
        if entry.is_file():
            entry.write_text(json.dumps(changed(json.loads(entry.read_text()), draw)))
        with suppress(InputError):  # any other exception is a fault
            read_all(folder)
            n_read += 1
        shutil.rmtree(folder)
    assert 0 < n_read < n_changes


def test_refusal_of_a_codec_passes_through_the_parser_process(vcz: Path) -> None:
    write_array(vcz, "variant_contig", [0, 0, 0, 0, 0, 7])
    with pytest.raises(InputError) as caught:
        read_genotypes(vcz, symbolic=True)
    assert caught.value.code == "not_vcf"
