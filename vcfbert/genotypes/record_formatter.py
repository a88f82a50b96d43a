"""Formats imputed blocks as records of a VCF or BCF. One call of a kernel formats many records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.info_fields import InfoFields
from vcfbert.genotypes.panel import Lines, Panel
from vcfbert.genotypes.record_bcf import KEYS, THOUSANDTHS, encode_records
from vcfbert.genotypes.record_text import Characters, RecordColumns, RecordContents, spell_records
from vcfbert.genotypes.record_values import ONE, Flags, RecordValues, record_values
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_header import DEFAULT_FIELDS, FIELDS, bcf_keys, chosen_fields
from vcfbert.kernels import Doubles, Indices

# Sites x samples, and sites, formatted at a time. Their numbers and texts stay in the processor's cache, and the text
# of one part is compressed while the next is formatted.
_CELLS_AT_ONCE: Final = 1 << 17
_SITES_AT_ONCE: Final = 1 << 13

# Upper bounds of a record's bytes, as text or BCF, without its strings and samples, and of the numbers of a site.
_RECORD_BYTES: Final = 128
_SITE_BYTES: Final = 64
_SLACK_BYTES: Final = 8  # that a kernel may overwrite after the last
_NUMBER_BYTES: Final = 6  # of one in thousandths, such as ',0.125'


class RecordBytes(NamedTuple):
    """r consecutive records of a chromosome: their bytes, and [r] of each record where it ends in them.

    ``start``, ``stop`` [r] are 0-based half-open intervals on the reference.
    """

    data: bytes | memoryview
    start: Indices
    stop: Indices
    ends: Indices


def joined_sites(panel: Panel, swapped: Flags) -> Flags:
    """[n_sites]: True where a site is written into the same multiallelic record as the site before it.

    If REF and ALT are exchanged at a site of a record, the record is written as biallelic records, one per ALT.
    """
    sites = panel.sites
    joined = sites.continues.copy()
    joined[:1] = False
    site = np.flatnonzero(joined)
    joined[site] = (sites.pos[site] == sites.pos[site - 1]) & (sites.ref[site] == sites.ref[site - 1])
    record = np.cumsum(~joined)
    exchanged = np.zeros(len(joined) + 1, dtype=bool)
    exchanged[record[swapped]] = True
    return joined & ~exchanged[record]


class RecordFormatter:
    """Formats the blocks of one panel. ``ids``, ``swapped`` and ``joined`` have the length of the panel's sites.

    ``ids`` is None, '' or '.' where the panel's ID is written. ``swapped`` is True where REF and ALT are written
    exchanged. ``joined``: see ``joined_sites``. ``haploid`` [n_samples] is True for haploid samples. ``fields``: the
    fields of FORMAT. A record without a typed sample is excluded if the DR2 of each of its ALT alleles is below
    ``min_dr2``. ``summary`` counts every site. ``contig`` is the number of the chromosome in a BCF's header, and
    ``kept`` its lines of kept INFO (``vcf_header.kept_lines``); records are text if ``contig`` is None.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        ids: npt.NDArray[np.object_] | None,
        swapped: Flags,
        joined: Flags,
        haploid: Flags | None = None,
        fields: Iterable[str] = DEFAULT_FIELDS,
        min_dr2: float = 0.0,
        summary: Summary | None = None,
        contig: int | None = None,
        kept: Sequence[str] = (),
    ) -> None:
        self._sites = panel.sites
        self._with_id = np.empty(0, dtype=np.int64) if ids is None else np.flatnonzero(_is_given(ids))
        self._ids = panel.sites.id if ids is None else ids
        self._swapped = swapped
        self._joined = joined
        self._haploid = None if haploid is None else np.ascontiguousarray(haploid, dtype=bool)
        self._fields = chosen_fields(fields)
        self._min_dr2 = min_dr2
        self._summary = summary
        self._contig = contig
        self._keys = bcf_keys(self._fields, kept)
        self._end = panel.sites.end
        self._info = None if panel.sites.info is None else InfoFields(panel.sites.info.header)

    def records(self, block: ImputedBlock) -> Iterator[RecordBytes]:
        """The block's records in order. No multiallelic record may cross its ends (see ``whole_records``).

        Raises VcfbertError('probability_invalid').
        """
        n_sites, n_samples, _ = block.haplotype_dosage.shape
        joined = self._joined[block.start : block.stop].copy()
        joined[:1] = False
        first = np.append(np.flatnonzero(~joined), n_sites)
        columns = self._columns(block.start, first)
        haploid = np.zeros(n_samples, dtype=bool) if self._haploid is None else self._haploid
        step = min(max(_CELLS_AT_ONCE // max(n_samples, 1), 1), _SITES_AT_ONCE)
        begin = 0
        while begin < len(first) - 1:
            end = max(int(np.searchsorted(first, first[begin] + step, side="right")) - 1, begin + 1)
            own = columns.records(begin, end)
            some = block.rows(int(first[begin]), int(first[end]))
            values, certainty = record_values(
                some,
                own.first,
                haploid=haploid,
                swapped=own.swapped,
                min_dr2=self._min_dr2,
                with_quality="GQ" in self._fields,
            )
            self._count(some.start, own.first, values, certainty)
            yield self._formatted(own, values, haploid)
            begin = end

    def _columns(self, start: int, first: Indices) -> RecordColumns:
        stop = start + int(first[-1])
        own = self._with_id[slice(*np.searchsorted(self._with_id, [start, stop]))]
        given = dict(zip(own.tolist(), self._ids[own].tolist(), strict=True))
        for record in np.flatnonzero(np.diff(first) > 1).tolist():
            of_sites = range(start + int(first[record]), start + int(first[record + 1]))
            ids = [given.get(site, self._sites.id[site]) for site in of_sites]
            given[of_sites[0]] = ";".join(dict.fromkeys(i for id_ in ids for i in id_.split(";") if i != ".")) or "."
        ref, alt, id_ = self._sites.lines
        pos = np.ascontiguousarray(self._sites.pos[start:stop], dtype=np.int32)
        refs, alts = ref.replaced(start, stop, {}), alt.replaced(start, stop, {})
        swapped, end = self._swapped[start:stop], self._end[start:stop]
        bases = np.where(swapped, np.diff(alts.starts), np.diff(refs.starts)) - 1
        length = np.where(end > 0, end - pos + 1, bases)
        lines = (*refs, *alts, *id_.replaced(start, stop, given))
        info, n_info = self._kept_info(slice(start, stop), first)
        return RecordColumns(first, swapped, pos, *lines, *info, n_info=n_info, length=length)

    def _kept_info(self, site: slice, first: Indices) -> tuple[Lines, Characters]:
        """Kept INFO of the records and the number of its fields [l], both in the place of first sites."""
        n_sites = int(first[-1])
        counts = np.zeros(n_sites, dtype=np.uint8)
        if self._info is None or self._sites.info is None:
            return Lines(np.full(n_sites, ord("\n"), dtype=np.uint8), np.arange(n_sites + 1)), counts
        lines, texts = [b""] * n_sites, self._sites.info.texts[site]
        for record in np.flatnonzero(np.logical_or.reduceat(texts != "", first[:-1])).tolist():
            begin, stop = first[record : record + 2].tolist()
            fields = self._info.joined(texts[begin:stop].tolist())
            in_bcf = self._contig is not None
            lines[begin] = self._info.encoded(fields, self._keys) if in_bcf else self._info.text(fields)
            counts[begin] = len(fields)
        starts = np.append(0, np.cumsum([len(line) + 1 for line in lines]))
        return Lines(np.frombuffer(b"\n".join([*lines, b""]), dtype=np.uint8), starts), counts

    def _count(self, start: int, first: Indices, values: RecordValues, certainty: Indices) -> None:
        if self._summary is not None:
            length = np.diff(first)
            typed = np.repeat(np.logical_or.reduceat(values.typed, first[:-1]), length)
            site = np.arange(start, start + int(first[-1]))
            self._summary.add_sites(site, values.dr2, typed, np.repeat(values.kept, length))
            self._summary.add_genotypes(certainty)

    def _formatted(self, columns: RecordColumns, values: RecordValues, haploid: Flags) -> RecordBytes:
        first, kept = columns.first, values.kept
        af = values.total / max(ONE * (2 * len(haploid) - int(haploid.sum())), 1)
        numbers = np.stack([af, _maf(af, first), values.dr2, values.er2], axis=1)
        contents = RecordContents(values.hds, values.two, values.gq, numbers, values.typed, kept)
        out = np.empty(self._max_bytes(columns, len(haploid)), dtype=np.uint8)
        ends = np.empty(len(first) - 1, dtype=np.int64)
        has = np.array([name in self._fields for name in FIELDS[1:]])
        if self._contig is None:
            chrom, format_ = _characters(self._sites.chrom), _characters(":".join(self._fields))
            spell_records(columns, contents, haploid, has, chrom, format_, out, ends)
        else:
            keys = np.array([self._keys.get(name, 0) for name in KEYS], dtype=np.uint8)
            encode_records(columns, contents, haploid, has, self._contig, keys, THOUSANDTHS, out, ends)
        of_record = first[:-1][kept]
        start = columns.pos[of_record].astype(np.int64) - 1
        return RecordBytes(out[: ends[-1]].data, start, start + columns.length[of_record], ends[kept])

    def _max_bytes(self, columns: RecordColumns, n_samples: int) -> int:
        """An upper bound of the bytes of the records."""
        k = np.diff(columns.first)  # ALT alleles of each record
        call = np.where(k > 9, 12, 4)
        cell = call + _NUMBER_BYTES * (3 * k + (k + 1) * (k + 2) // 2) + len(":99")
        of_strings = (columns.ref_starts, columns.alt_starts, columns.id_starts, columns.info_starts)
        strings = sum(int(starts[-1] - starts[0]) for starts in of_strings)
        each = _RECORD_BYTES + len(self._sites.chrom.encode()) + len(":".join(self._fields))
        return strings + int((each + _SITE_BYTES * k + n_samples * cell).sum()) + _SLACK_BYTES


def _maf(af: Doubles, first: Indices) -> Doubles:
    """[l]: the frequency of the second most common allele of each record, in the row of its first site."""
    maf = np.minimum(af, 1.0 - af)
    for record in np.flatnonzero(np.diff(first) > 1).tolist():
        alts = af[first[record] : first[record + 1]]
        maf[first[record]] = sorted([max(round(1.0 - float(alts.sum()), 9), 0.0), *alts.tolist()])[-2]
    return np.asarray(maf)


def _is_given(ids: npt.NDArray[np.object_]) -> Flags:
    given: Flags = np.asarray(ids != np.array(None), dtype=bool)
    given[given] = [one not in ("", ".") for one in ids[given].tolist()]
    return given


def _characters(text: str) -> Characters:
    return np.frombuffer(text.encode(), dtype=np.uint8)
