"""Downloads a chromosome of the 1000 Genomes high-coverage panel, or a region of it, and a genetic map over HTTPS.

Panel: 3,202 samples sequenced at 30x, phased, GRCh38 (Byrska-Bishop et al. 2022, Cell 185:3426). Map: the one that
GLIMPSE distributes. For a region, only the byte ranges that the tabix index gives are downloaded. An interrupted
download stays in a ``.part`` file and resumes from it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vcfbert.artifacts import atomic_file, output_error, remove_indexes
from vcfbert.datasets.http_download import Report, download, remove
from vcfbert.errors import InputError, VcfbertError
from vcfbert.genotypes import bgzf
from vcfbert.genotypes.regions import Region, canonical_chrom, same_chrom

PANEL_URL: Final = (
    "https://ftp.1000genomes.ebi.ac.uk/vol1/ftp/data_collections/1000G_2504_high_coverage/working/"
    "20220422_3202_phased_SNV_INDEL_SV"
)
MANIFEST: Final = "20220804_manifest.txt"  # md5 of each file, in the panel's folder
MAP_URL: Final = "https://raw.githubusercontent.com/odelaneau/GLIMPSE/master/maps/genetic_maps.b38"
AUTOSOMES: Final = tuple(str(number) for number in range(1, 23))

_MAX_BLOCK_BYTES: Final = 1 << 16  # compressed size of a BGZF block
_SEQUENCE: Final = re.compile(rb"[ACGTNacgtn,]+")  # ALT alleles given as bases


@dataclass(frozen=True)
class Fetched:
    """What ``fetch_1kg`` wrote.

    ``records``: number of records in ``panel``. ``symbolic``: number of structural variants without a sequence, which
    are excluded from it. ``checked``: whether an md5 of the server was compared; for a region it is that of the index.
    """

    panel: Path
    genetic_map: Path
    records: int
    symbolic: int
    checked: bool


def fetch_1kg(
    chrom: str,
    region: str | None,
    out: Path,
    *,
    base_url: str = PANEL_URL,
    map_url: str = MAP_URL,
    progress: Callable[[str], Report] | None = None,
) -> Fetched:
    """Downloads the panel (bgzipped, with .tbi) and the genetic map into the folder ``out``.

    ``chrom``: an autosome, '20' or 'chr20'. ``region``: 'FROM-TO' or 'CHROM:FROM-TO', 1-based and inclusive; None for
    the whole chromosome. ``progress``: called with the name of each file, it returns the callback that receives the
    file's bytes so far and in total.

    Raises InputError for an unknown chromosome, an empty region or a file that the server does not have; VcfbertError
    where the connection keeps failing or a checksum differs; ResourceError where the disk is full.
    """
    wanted = _wanted(chrom, region)
    name = canonical_chrom(wanted.chrom)
    vcf_url = f"{base_url.rstrip('/')}/1kGP_high_coverage_Illumina.chr{name}.filtered.SNV_INDEL_SV_phased_panel.vcf.gz"
    suffix = "" if region is None else f".{wanted.start}-{wanted.stop or 'end'}"
    panel, genetic_map = out / f"1kg.chr{name}{suffix}.vcf.gz", out / f"chr{name}.b38.gmap.gz"
    try:
        out.mkdir(parents=True, exist_ok=True)
        fetched = _Folder(out, progress or _silent)
        fetched.read_manifest(f"{base_url.rstrip('/')}/{MANIFEST}")
        os.replace(fetched.get(f"{map_url.rstrip('/')}/{genetic_map.name}"), genetic_map)
        head, body, skip = fetched.whole(vcf_url) if region is None else fetched.region(vcf_url, wanted)
        records, symbolic = _cut(head, body, skip, wanted, panel)
        fetched.clear()
    except OSError as error:
        raise output_error(error, out) from error
    return Fetched(panel, genetic_map, records, symbolic, fetched.checked)


def _wanted(chrom: str, region: str | None) -> Region:
    if canonical_chrom(chrom) not in AUTOSOMES:
        raise InputError("chromosome_unknown", f"{chrom!r} is not an autosome", hint="use 1 to 22")
    text = f"chr{canonical_chrom(chrom)}"
    if region is not None:
        text = region if ":" in region else f"{text}:{region}"
    wanted = Region.parse(text)
    if not same_chrom(wanted.chrom, chrom):
        raise InputError("region_invalid", f"{region!r} is not on chromosome {chrom}")
    return wanted


def _silent(name: str) -> Report:
    return lambda done, total: None


class _Folder:
    """Downloads files into ``.part`` files of a folder and checks them against the manifest."""

    def __init__(self, folder: Path, progress: Callable[[str], Report]) -> None:
        self._folder = folder
        self._progress = progress
        self._manifest = ""
        self._parts: list[Path] = []
        self.checked = False

    def read_manifest(self, url: str) -> None:
        with suppress(InputError):  # a mirror may lack the manifest
            self._manifest = self.get(url).read_text(errors="replace")

    def get(self, url: str, first: int = 0, last: int | None = None) -> Path:
        """Downloads bytes ``first`` to ``last`` (inclusive) of a file. Compares a whole file with its md5."""
        name = url.rsplit("/", 1)[1]
        whole = first == 0 and last is None
        part = self._folder / (f".{name}.part" if whole else f".{name}.{first}-{last}.part")
        self._parts.append(part)
        download(url, part, first=first, last=last, report=self._progress(name))
        md5 = self._md5(name) if whole else None
        if md5 is not None:
            self._check(part, md5, url)
        return part

    def _md5(self, name: str) -> str | None:
        for line in self._manifest.splitlines():
            words = line.split()
            if any(word.rsplit("/", 1)[-1] == name for word in words):
                return next((word for word in words if re.fullmatch("[0-9a-f]{32}", word)), None)
        return None

    def _check(self, part: Path, expected: str, url: str) -> None:
        with part.open("rb") as handle:
            found = hashlib.file_digest(handle, "md5").hexdigest()
        if found != expected:
            self.clear()
            raise VcfbertError(
                "checksum_differs", f"the md5 is {found}, expected {expected}", where=url, hint="repeat the command"
            )
        self.checked = True

    def whole(self, url: str) -> tuple[Path, Path, int]:
        """Downloads the whole file. Returns what ``region`` returns."""
        part = self.get(url)
        return part, part, 0

    def region(self, url: str, wanted: Region) -> tuple[Path, Path, int]:
        """Downloads the BGZF blocks of a region. Returns the file that holds the header, the file that holds the
        region's records, and the offset of the first such record in the latter's decompressed text."""
        index = self.get(f"{url}.tbi").read_bytes()
        stop = bgzf.MAX_TABIX_POSITION if wanted.stop is None else wanted.stop
        chrom = f"chr{canonical_chrom(wanted.chrom)}"
        found = bgzf.locate(index, chrom, wanted.start - 1, stop)
        if found is None:
            raise InputError("region_empty", f"no record lies in {wanted}", where=url, hint="check the region")
        head = self.get(url, 0, (found.first_record >> 16) + _MAX_BLOCK_BYTES - 1)
        return head, self.get(url, found.begin >> 16, (found.end >> 16) + _MAX_BLOCK_BYTES - 1), found.begin & 0xFFFF

    def clear(self) -> None:
        for part in self._parts:
            remove(part)


def _cut(head: Path, body: Path, skip: int, wanted: Region, path: Path) -> tuple[int, int]:
    """Writes the header of ``head`` and those records of ``body`` that are ``wanted`` to ``path``.

    Records of ``body`` begin after ``skip`` bytes of its decompressed text. Structural variants without a sequence are
    excluded, because they have no alleles to impute. Returns the number of written and of excluded records.
    """
    intervals: list[tuple[int, int, int]] = []  # start and stop of each record, length of its line
    symbolic = 0
    header = b"".join(_header_lines(head))
    with atomic_file(path) as temporary:
        with temporary.open("wb") as handle, bgzf.BgzfWriter(handle, threads=2) as writer:
            writer.write(header)
            for line in _lines(body, skip):
                if line.startswith(b"#"):
                    continue
                _, text, _, ref, alt, _ = line.split(b"\t", 5)
                pos = int(text)
                if wanted.stop is not None and pos > wanted.stop:
                    break
                if not wanted.holds(pos):
                    continue
                if not _SEQUENCE.fullmatch(alt):
                    symbolic += 1
                    continue
                writer.write(line)
                intervals.append((pos - 1, pos - 1 + len(ref), len(line)))
        start, stop, length = np.array(intervals, dtype=np.int64).reshape(-1, 3).T
        offsets = writer.virtual_offsets(len(header) + np.concatenate([[0], np.cumsum(length)]))
        with atomic_file(path.with_name(f"{path.name}.tbi")) as index:
            index.write_bytes(
                bgzf.tabix_index([bgzf.RecordOffsets(f"chr{canonical_chrom(wanted.chrom)}", start, stop, offsets)])
            )
        remove_indexes(path, but=".tbi")
    return len(intervals), symbolic


def _header_lines(path: Path) -> Iterator[bytes]:
    for line in _lines(path, 0):
        if not line.startswith(b"#"):
            return
        yield line


def _lines(path: Path, skip: int) -> Iterator[bytes]:
    """The complete lines of a BGZF file, with their ends, from byte ``skip`` of its decompressed text on."""
    rest = b""
    with path.open("rb") as handle:
        for text in bgzf.read_blocks(handle):
            lines = (rest + text[skip:]).splitlines(keepends=True)
            skip = max(skip - len(text), 0)
            rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            yield from lines
