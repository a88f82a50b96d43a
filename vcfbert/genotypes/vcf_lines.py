"""Imputed blocks -> lines of VCF text, one a record.

Everything is derived from haplotype dosages (HDS) in whole thousandths, so that what is written agrees with itself:
DS is the sum of the two HDS, GT is their rounding, GP sums to 1 and its expectation is DS. The text of a sample then
depends on two or three small integers alone: each distinct text is built once and looked up from then on, and no
loop in Python touches a sample. A haploid sample has one HDS, which is its DS too, and GT of one allele, GP of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.errors import VcfbertError
from vcfbert.genotypes.imputed import ImputedBlock, estimated_r2
from vcfbert.genotypes.panel import Panel

FORMAT: Final = "GT:DS:HDS:GP"

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
Characters = npt.NDArray[np.uint8]

_ONE: Final = 1000  # in thousandths
_HALF: Final = 500
# Sites x samples formatted at once: the look-ups then stay within the processor's cache.
_CELLS_AT_ONCE: Final = 1 << 18


def _short(thousandths: int) -> bytes:
    """0 -> 0, 50 -> 0.05, 1000 -> 1."""
    return (b"%d.%03d" % divmod(thousandths, _ONE)).rstrip(b"0").rstrip(b".")


_SHORT: Final = np.array([_short(i) for i in range(2 * _ONE + 1)], dtype=object)
# The same, and the four genotypes, as characters padded with NUL: what the columns of new texts are taken from.
_NUMBER: Final = _SHORT.astype("S5").view(np.uint8).reshape(-1, 5)
_GENOTYPE: Final = np.array([b"\t0|0:", b"\t0|1:", b"\t1|0:", b"\t1|1:"]).view(np.uint8).reshape(4, 5)
_ALLELE: Final = np.array([b"\t0:", b"\t1:"]).view(np.uint8).reshape(2, 3)


class Line(NamedTuple):
    """A record: its text with the line's end, and its 0-based half-open interval on the reference."""

    text: bytes
    start: int
    stop: int


class _TextTable:
    """Texts by integer code below ``size``, built in bulk by ``build`` the first time that a code is seen."""

    def __init__(self, size: int, build: Callable[[IntArray], list[bytes]]) -> None:
        self._texts = np.empty(size, dtype=object)
        self._known = np.zeros(size, dtype=bool)
        self._build = build

    def __getitem__(self, codes: IntArray) -> npt.NDArray[np.object_]:
        unseen = codes[~self._known[codes]]
        if unseen.size:
            new = np.unique(unseen)
            self._texts[new] = np.array(self._build(new), dtype=object)
            self._known[new] = True
        return np.asarray(self._texts[codes])


def _texts(*columns: Characters | bytes) -> list[bytes]:
    """The texts [m] that the columns, character matrices [m, width] padded with NUL or constants, spell in a row."""
    rows = next(len(column) for column in columns if not isinstance(column, bytes))
    matrices = [
        np.broadcast_to(np.frombuffer(column, np.uint8), (rows, len(column))) if isinstance(column, bytes) else column
        for column in (*columns, b"\n")
    ]
    return np.concatenate(matrices, axis=1).tobytes().translate(None, b"\0").split(b"\n")[:-1]


def _head_code(q: IntArray) -> IntArray:
    return np.asarray(q[..., 0] * (_ONE + 1) + q[..., 1])


def _head_columns(code: IntArray) -> tuple[Characters | bytes, ...]:
    """GT:DS:HDS: of a sample with the haplotype dosages ``divmod(code, 1001)``."""
    q1, q2 = np.divmod(code, _ONE + 1)
    genotype = 2 * (q1 >= _HALF) + (q2 >= _HALF)
    return _GENOTYPE[genotype], _NUMBER[q1 + q2], b":", _NUMBER[q1], b",", _NUMBER[q2], b":"


def _tail_columns(ds: IntArray, g2: IntArray) -> tuple[Characters | bytes, ...]:
    """GP, from the dosage and the probability of two ALT alleles."""
    return _NUMBER[_ONE - ds + g2], b",", _NUMBER[ds - 2 * g2], b",", _NUMBER[g2]


def _independent_g2(q: IntArray) -> IntArray:
    """Probability of two ALT alleles where the haplotypes [..., 2] are independent."""
    return np.asarray((q[..., 0] * q[..., 1] + _HALF) // _ONE)


def _build_heads(code: IntArray) -> list[bytes]:
    return _texts(*_head_columns(code))


def _build_tails(code: IntArray) -> list[bytes]:
    ds, g2 = np.divmod(code, _ONE + 1)
    return _texts(*_tail_columns(ds, g2))


def _build_independent(code: IntArray) -> list[bytes]:
    q = np.stack(np.divmod(code, _ONE + 1), axis=-1)
    return _texts(*_head_columns(code), *_tail_columns(q.sum(axis=-1), _independent_g2(q)))


def _build_haploid(q: IntArray) -> list[bytes]:
    """The whole text of haploid samples with the dosages ``q``."""
    genotype = (q >= _HALF).astype(np.int64)
    return _texts(_ALLELE[genotype], _NUMBER[q], b":", _NUMBER[q], b":", _NUMBER[_ONE - q], b",", _NUMBER[q])


def joined_sites(panel: Panel, swapped: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[n_sites]: True where a site is written in the same multiallelic record as the site before it.

    A record of which the input had a REF/ALT pair exchanged is written as the biallelic ones it was split into.
    """
    sites = panel.sites
    joined = sites.continues.copy()
    joined[:1] = False
    joined[1:] &= (sites.pos[1:] == sites.pos[:-1]) & (sites.ref[1:] == sites.ref[:-1])
    record = np.cumsum(~joined) - 1
    return joined & ~np.isin(record, record[swapped])


class LineFormatter:
    """Formats the blocks of one file. ``ids``, ``swapped`` and ``joined`` are [n_sites] of the panel.

    ``ids``: None or '.' where the panel's ID is to be used. ``swapped``: True where REF and ALT are written
    exchanged. ``joined``: see ``joined_sites``. ``haploid`` [n_samples]: True where a sample has one haplotype.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        ids: npt.NDArray[np.object_] | None,
        swapped: npt.NDArray[np.bool_],
        joined: npt.NDArray[np.bool_],
        haploid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._sites = panel.sites
        self._ids = ids
        self._swapped = swapped
        self._joined = joined
        self._haploid = np.zeros(0, dtype=np.int64) if haploid is None else np.flatnonzero(haploid)
        self._haploid_flags = haploid
        self._haploid_texts = _TextTable(_ONE + 1, _build_haploid)
        size = (_ONE + 1) ** 2
        self._independent = _TextTable(size, _build_independent)
        self._heads = _TextTable(size, _build_heads)
        self._tails = _TextTable(2 * size, _build_tails)

    def lines(self, block: ImputedBlock) -> Iterator[Line]:
        """The block's records in order. A multiallelic record must lie within the block (see ``whole_records``)."""
        n_sites, n_samples, _ = block.haplotype_dosage.shape
        joined = self._joined[block.start : block.stop].copy()
        joined[:1] = False
        starts = np.append(np.flatnonzero(~joined), n_sites).tolist()
        several = joined | np.append(joined[1:], False)
        step = max(_CELLS_AT_ONCE // max(n_samples, 1), 1)
        biallelic: list[bytes] = []
        first = 0
        for start, stop in pairwise(starts):
            if start >= first + len(biallelic):
                first, biallelic = start, self._biallelic(rows(block, start, min(start + step, n_sites)))
            site = block.start + start
            text = self._multiallelic(rows(block, start, stop)) if several[start] else biallelic[start - first]
            position = int(self._sites.pos[site]) - 1
            yield Line(text, position, position + len(self._alleles(site)[0]))

    def _biallelic(self, block: ImputedBlock) -> list[bytes]:
        """Each site of the block as a biallelic record."""
        hds = _with_calls(block)
        swapped = self._swapped[block.start : block.stop]
        q = _thousandths(hds)  # [l, n, 2]
        q[swapped] = _ONE - q[swapped]
        q[:, self._haploid, 1] = 0
        n_sites, n_samples, _ = q.shape
        per_sample = 1 if block.genotype_probability is None else 2
        text = np.empty((n_sites, per_sample * n_samples + 2), dtype=object)
        if block.genotype_probability is None:
            text[:, 1:-1] = self._independent[_head_code(q)]
        else:
            ds = q.sum(axis=-1, dtype=np.int32)
            g2 = _constrained_g2(block, q, ds, swapped)
            text[:, 1:-1:2] = self._heads[_head_code(q)]
            text[:, 2:-1:2] = self._tails[ds * (_ONE + 1) + g2]
        if len(self._haploid):
            column = 1 + per_sample * self._haploid
            text[:, column + per_sample - 1] = b""
            text[:, column] = self._haploid_texts[q[:, self._haploid, 0]]
        text[:, 0] = self._site_columns(block, self._frequencies(q), estimated_r2(hds, self._haploid_flags))
        text[:, -1] = b"\n"
        return [b"".join(row) for row in text.tolist()]

    def _frequencies(self, q: IntArray) -> npt.NDArray[np.float64]:
        """AF [l] of dosages [l, n, 2] that are 0 in place of the second haplotype of haploid samples."""
        return np.asarray(q.sum(axis=(1, 2)) / max(_ONE * (2 * q.shape[1] - len(self._haploid)), 1))

    def _site_columns(
        self, block: ImputedBlock, af: npt.NDArray[np.float64], dr2: npt.NDArray[np.float64]
    ) -> list[bytes]:
        """CHROM to FORMAT of each site of the block."""
        columns = []
        typed = block.typed.tolist()
        for offset, (frequency, r2) in enumerate(zip(af.tolist(), dr2.tolist(), strict=True)):
            site = block.start + offset
            maf = min(frequency, 1.0 - frequency)
            info = f"AF={frequency:.5g};MAF={maf:.5g};DR2={r2:.4g};{_origin(typed[offset])}"
            columns.append(self._fixed_columns(site, *self._alleles(site), self._id(site), info))
        return columns

    def _fixed_columns(self, site: int, ref: str, alt: str, id_: str, info: str) -> bytes:
        sites = self._sites
        return f"{sites.chrom}\t{sites.pos[site]}\t{id_}\t{ref}\t{alt}\t.\tPASS\t{info}\t{FORMAT}".encode()

    def _alleles(self, site: int) -> tuple[str, str]:
        ref, alt = self._sites.ref[site], self._sites.alt[site]
        return (alt, ref) if self._swapped[site] else (ref, alt)

    def _id(self, site: int) -> str:
        given = None if self._ids is None else self._ids[site]
        return str(self._sites.id[site] if given in (None, "", ".") else given)

    def _multiallelic(self, block: ImputedBlock) -> bytes:
        """All sites of the block as one record with as many ALT alleles, rescaled where they exceed 1 together.

        The haplotypes count as independent: the genotype probabilities of the single sites do not say how
        different ALT alleles go together.
        """
        hds = _with_calls(block).astype(np.float64)  # [k, n, 2], k ALT alleles
        hds /= np.maximum(hds.sum(axis=0), 1.0)
        q = _thousandths(hds)
        text = _multiallelic_texts(q)
        if len(self._haploid):
            for sample, own in zip(self._haploid.tolist(), _multiallelic_texts(q[:, self._haploid, :1]), strict=True):
                text[sample] = own
            q[:, self._haploid, 1] = 0
        dr2 = estimated_r2(hds.astype(np.float32), self._haploid_flags)
        return b"".join([self._multiallelic_columns(block, self._frequencies(q), dr2), *text, b"\n"])

    def _multiallelic_columns(
        self, block: ImputedBlock, af: npt.NDArray[np.float64], dr2: npt.NDArray[np.float64]
    ) -> bytes:
        sites = range(block.start, block.stop)
        ids = dict.fromkeys(i for site in sites for i in self._id(site).split(";") if i != ".")
        maf = sorted([max(round(1.0 - float(af.sum()), 9), 0.0), *af.tolist()])[-2]  # of the second most common allele
        info = ";".join(
            [
                "AF=" + ",".join(f"{value:.5g}" for value in af.tolist()),
                f"MAF={maf:.5g}",
                "DR2=" + ",".join(f"{value:.4g}" for value in dr2.tolist()),
                _origin(bool(block.typed.any())),
            ]
        )
        alts = ",".join(self._alleles(site)[1] for site in sites)
        return self._fixed_columns(block.start, self._alleles(block.start)[0], alts, ";".join(ids) or ".", info)


def _multiallelic_texts(q: IntArray) -> list[bytes]:
    """Texts of the samples of one record with k ALT alleles, of dosages [k, n, ploidy]."""
    n_alts, n_samples, ploidy = q.shape
    probability = np.concatenate([np.maximum(_ONE - q.sum(axis=0, keepdims=True), 0), q])  # [1 + k, n, ploidy]
    # ALT before REF, so that of equals ALT is called, as in biallelic records.
    call = (np.roll(probability, -1, axis=0).argmax(axis=0) + 1) % (n_alts + 1)  # [n, ploidy]
    allele = np.array([b"%d" % a for a in range(n_alts + 1)], dtype=object)
    columns: list[npt.NDArray[np.object_] | bytes] = [b"\t", allele[call[:, 0]]]
    genotypes = [*probability[..., 0]]
    if ploidy == 2:
        columns += [b"|", allele[call[:, 1]]]
        first, second = probability[..., 0], probability[..., 1]  # [1 + k, n]
        genotypes = [
            (first[j] * second[k] + (first[k] * second[j] if j != k else 0) + _HALF) // _ONE
            for k in range(n_alts + 1)
            for j in range(k + 1)
        ]
    haplotypes = np.moveaxis(q, 2, 0).reshape(-1, n_samples)  # the ALT alleles of the first, then of the second
    for values in (q.sum(axis=2), haplotypes, genotypes):
        for separator, value in zip([b":", *[b","] * (len(values) - 1)], values, strict=True):
            columns += [separator, _SHORT[value]]
    text = np.empty((n_samples, len(columns)), dtype=object)
    for column, content in enumerate(columns):
        text[:, column] = content
    return [b"".join(row) for row in text.tolist()]


def rows(block: ImputedBlock, start: int, stop: int) -> ImputedBlock:
    """Sites [start, stop) of the block, counted within it, without a copy."""
    gp = block.genotype_probability
    return ImputedBlock(
        block.start + start,
        block.start + stop,
        block.haplotype_dosage[start:stop],
        block.calls[start:stop],
        None if gp is None else gp[start:stop],
    )


def _origin(typed: bool) -> str:
    return "TYPED" if typed else "IMP"


def _with_calls(block: ImputedBlock) -> FloatArray:
    """Haplotype dosages [l, n, 2], those of typed haplotypes replaced by their alleles."""
    typed = block.typed
    if not typed.any():
        return block.haplotype_dosage
    hds = block.haplotype_dosage.copy()
    calls = block.calls[typed]
    hds[typed] = np.where(calls >= 0, calls, hds[typed])
    return hds


def _thousandths(probability: npt.NDArray[np.floating]) -> IntArray:
    """In whole thousandths. Raises VcfbertError where a value is not a probability."""
    tolerance = 0.5 / _ONE  # float32 arithmetic may leave a hair over 1
    # NaN fails both comparisons.
    if probability.size and not (probability.min() >= -tolerance and probability.max() <= 1.0 + tolerance):
        raise VcfbertError(
            "probability_invalid",
            f"the model gave values that are not probabilities ({probability.min()} to {probability.max()})",
            hint="the model's weights may be damaged: run `vcfbert bundle verify`",
        )
    return np.asarray(np.rint(probability * np.float32(_ONE)).clip(0, _ONE), dtype=np.int32)


def _constrained_g2(block: ImputedBlock, q: IntArray, ds: IntArray, swapped: npt.NDArray[np.bool_]) -> IntArray:
    """P(two ALT) [l, n] of the block's GP, moved by rounding alone so that GP agrees with DS.

    ``q`` [l, n, 2] and ``ds`` [l, n] are in the written orientation.
    """
    assert block.genotype_probability is not None
    g2 = _thousandths(block.genotype_probability[..., 2])
    g2[swapped] += ds[swapped] - _ONE  # GP2 of the written orientation is GP0 of the panel's
    known = (block.calls >= 0).any(axis=-1)
    g2[known] = _independent_g2(q[known])
    return np.asarray(g2.clip(np.maximum(ds - _ONE, 0), ds // 2))
