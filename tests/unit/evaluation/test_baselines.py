"""Small scripts stand in for the baselines; tests/integration runs the real ones where installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcfbert.errors import InputError, VcfbertError
from vcfbert.evaluation.baselines import find_baselines, run_baseline, run_beagle, run_minimac4

CASE = Path(__file__).parents[2] / "data/scoring"
PANEL, TARGET = CASE / "panel.vcf.gz", CASE / "truth.vcf.gz"

# Writes what it was asked beside itself, and an imputed file where Beagle would.
BEAGLE = """#!/bin/sh
here=$(dirname "$0")
for argument in "$@"; do
  echo "$argument" >> "$here/asked"
  case "$argument" in
    out=*) out=${argument#out=} ;;
    map=*) cp "${argument#map=}" "$here/map" ;;
  esac
done
echo "beagle.22Jul22.46e.jar (version 5.4)" > "$out.log"
echo imputed > "$out.vcf.gz"
"""
MINIMAC4 = """#!/bin/sh
here=$(dirname "$0")
case "$1" in
  --version) echo "minimac v4.1.2"; exit ;;
  --compress-reference) echo panel; exit ;;
esac
while [ $# -gt 0 ]; do
  case "$1" in
    --output) echo imputed > "$2" ;;
    --map) cp "$2" "$here/map" ;;
  esac
  last=$1
  shift
done
ls "$last".tbi > "$here/index"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder, besides the system's shell tools, searched for baselines."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).is_file() else None)
    return folder


@pytest.fixture
def genetic_map(tmp_path: Path) -> Path:
    path = tmp_path / "chr20.gmap"
    path.write_text("pos\tchr\tcM\n1000000\t20\t4.5\n4000000\t20\t11.25\n")
    return path


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def test_find_baselines_returns_programs_on_path(programs: Path) -> None:
    assert find_baselines() == {}
    install(programs, "minimac4", MINIMAC4)
    assert find_baselines() == {"minimac4": programs / "minimac4"}


def test_beagle_gets_panel_target_and_a_plink_map(programs: Path, genetic_map: Path, tmp_path: Path) -> None:
    install(programs, "beagle", BEAGLE)
    run = run_beagle(PANEL, TARGET, genetic_map, tmp_path / "out.vcf.gz", threads=2)
    assert (run.name, run.version, run.path) == ("beagle", "5.4", tmp_path / "out.vcf.gz")
    assert run.path.read_text() == "imputed\n"
    assert run.seconds > 0
    asked = (programs / "asked").read_text().split()
    assert {f"gt={TARGET}", f"ref={PANEL}", "nthreads=2"} <= set(asked)
    assert (programs / "map").read_text() == "20 . 4.500000 1000000\n20 . 11.250000 4000000\n"


def test_beagle_runs_without_a_map(programs: Path, tmp_path: Path) -> None:
    install(programs, "beagle", BEAGLE)
    run_baseline("beagle", PANEL, TARGET, None, tmp_path / "out.vcf.gz")
    assert not any(line.startswith("map=") for line in (programs / "asked").read_text().split())


def test_minimac4_gets_an_indexed_target_and_its_own_form_of_map(
    programs: Path, genetic_map: Path, tmp_path: Path
) -> None:
    install(programs, "minimac4", MINIMAC4)
    run = run_minimac4(PANEL, TARGET, genetic_map, tmp_path / "out.vcf.gz")
    assert (run.version, run.path.read_text()) == ("4.1.2", "imputed\n")
    assert (programs / "index").read_text().strip().endswith(".tbi")
    assert not Path(f"{TARGET}.tbi").exists()  # the input's folder is left as it was
    rows = (programs / "map").read_text().splitlines()
    assert rows[:2] == ["#chr\tposition\tGenetic_Map(cM)", "20\t1000000\t4.500000"]


def test_failing_baseline_is_quoted_and_leaves_no_file(programs: Path, tmp_path: Path) -> None:
    install(programs, "beagle", "#!/bin/sh\necho 'ERROR: no markers in common' >&2\nexit 3\n")
    with pytest.raises(VcfbertError) as caught:
        run_beagle(PANEL, TARGET, None, tmp_path / "out.vcf.gz")
    assert caught.value.code == "peer_failed"
    assert "status 3" in caught.value.what
    assert "no markers in common" in caught.value.what
    assert not (tmp_path / "out.vcf.gz").exists()


def test_baseline_without_output_is_an_error(programs: Path, tmp_path: Path) -> None:
    install(programs, "beagle", BEAGLE.replace('echo imputed > "$out.vcf.gz"', "true"))
    with pytest.raises(VcfbertError, match="wrote no imputed file"):
        run_beagle(PANEL, TARGET, None, tmp_path / "out.vcf.gz")


def test_missing_baseline_is_named_in_the_error(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_baseline("minimac4", PANEL, TARGET, None, tmp_path / "out.vcf.gz")
    assert caught.value.code == "peer_missing"
    assert "minimac4" in caught.value.what
