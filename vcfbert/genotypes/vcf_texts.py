"""The texts of samples in a record of imputed genotypes, spelled from probabilities in whole thousandths.

A compiled loop spells the samples of biallelic records; most of their cells are exactly 0 and are copied as constant
text. A haploid sample has one HDS, which is also its DS, a GT of one allele and a GP of two values.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Numbers, jitted

# The fields that FORMAT may have, in written order. GT is always written.
FIELDS: Final = ("GT", "DS", "HDS", "GP", "GQ")
DEFAULT_FIELDS: Final = ("GT", "DS", "HDS", "GP")

ONE: Final = 1000  # probabilities are in whole thousandths
HALF: Final = 500
MAX_GQ: Final = 99
NO_GQ: Final = 100  # stands for '.'

Characters = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]


def _short(thousandths: int) -> bytes:
    """0 -> 0, 50 -> 0.05, 1000 -> 1."""
    return (b"%d.%03d" % divmod(thousandths, ONE)).rstrip(b"0").rstrip(b".")


_SHORT: Final = np.array([_short(i) for i in range(2 * ONE + 1)], dtype=object)
_QUALITY: Final = np.array([b":%d" % q for q in range(MAX_GQ + 1)] + [b":."], dtype=object)
_MAX_CELL: Final = len(b"\t1|1:1.999:0.999,0.999:0.001,0.998,0.001:99")


class _Spelling(NamedTuple):
    """Texts by number, padded with NUL, and the fields that are spelled after GT."""

    numbers: Characters  # [2001, 6], with the length last
    qualities: Characters  # [101, 4], with the colon first and the length last
    ds: bool
    hds: bool
    gp: bool
    gq: bool


def _with_lengths(texts: Texts) -> Characters:
    fixed, lengths = texts.astype(bytes), [len(text) for text in texts.tolist()]
    return np.column_stack([fixed.view(np.uint8).reshape(len(texts), -1), np.array(lengths, dtype=np.uint8)])


@jitted
def _put(place: int, texts: Characters, number: int, out: Characters) -> Any:
    """Writes a text to ``out`` from ``place`` on, NULs included. Returns where the next one begins."""
    length = texts.shape[1] - 1
    text, target = texts[number], out[place : place + length]
    for i in range(length):
        target[i] = text[i]
    return place + np.int64(text[length])


@jitted
def _put_after(place: int, separator: int, numbers: Characters, number: int, out: Characters) -> Any:
    out[place] = separator
    return _put(place + 1, numbers, number, out)


@jitted
def _put_genotype(place: int, q1: int, q2: int, haploid: bool, out: Characters) -> int:
    out[place], out[place + 1] = ord("\t"), ord("0") + (q1 >= HALF)
    if haploid:
        return place + 2
    out[place + 2], out[place + 3] = ord("|"), ord("0") + (q2 >= HALF)
    return place + 4


@jitted
def _put_dosages(place: int, q1: int, q2: int, haploid: bool, numbers: Characters, out: Characters) -> Any:
    place = _put_after(place, ord(":"), numbers, q1, out)
    return place if haploid else _put_after(place, ord(","), numbers, q2, out)


@jitted
def _put_probabilities(
    place: int, q1: int, q2: int, g2: int, haploid: bool, numbers: Characters, out: Characters
) -> Any:
    """``g2`` is the probability of two ALT alleles, in thousandths."""
    if haploid:
        return _put_after(_put_after(place, ord(":"), numbers, ONE - q1, out), ord(","), numbers, q1, out)
    place = _put_after(place, ord(":"), numbers, ONE - q1 - q2 + g2, out)
    place = _put_after(place, ord(","), numbers, q1 + q2 - 2 * g2, out)
    return _put_after(place, ord(","), numbers, g2, out)


@jitted
def _put_zeros(place: int, zeros: Characters, size: int, out: Characters) -> int:
    target = out[place : place + size]
    for i in range(size):  # indices that cannot be negative, so the loop becomes a copy of memory
        target[i] = zeros[i]
    return place + size


@jitted
def _put_rows(
    q: Numbers, g2: Numbers, gq: Numbers, haploid: Flags, spelling: _Spelling, zeros: Characters, out: Characters
) -> npt.NDArray[np.int64]:
    """Writes the samples of each row of ``q`` [l, n, 2]; returns where each row ends. ``zeros``: n samples of text 0.

    ``g2`` and ``gq`` [l, n] have no row where haplotypes are independent and where GQ is no field.
    """
    stops = np.empty(len(q), np.int64)
    n, place, width = q.shape[1], 0, len(zeros) // max(q.shape[1], 1)
    numbers, qualities, ds, hds, gp, _ = spelling
    for row in range(len(q)):
        sample = 0
        while sample < n:
            run = sample
            while width > 0 and run < n and q[row, run, 0] == 0 and q[row, run, 1] == 0 and not haploid[run]:
                run += 1
            if run > sample:
                place = _put_zeros(place, zeros, (run - sample) * width, out)
                sample = run
                continue
            q1, q2, one = q[row, sample, 0], q[row, sample, 1], haploid[sample]
            place = _put_genotype(place, q1, q2, one, out)
            if ds:
                place = _put_after(place, ord(":"), numbers, q1 if one else q1 + q2, out)
            if hds:
                place = _put_dosages(place, q1, q2, one, numbers, out)
            if gp:
                g2_here = g2[row, sample] if len(g2) else (q1 * q2 + HALF) // ONE
                place = _put_probabilities(place, q1, q2, g2_here, one, numbers, out)
            if len(gq):
                place = _put(place, qualities, gq[row, sample], out)
            sample += 1
        stops[row] = place
    return stops


def independent_g2(q: Numbers) -> Numbers:
    """Probability of two ALT alleles where the haplotypes [..., 2] are independent, in thousandths."""
    return np.asarray((q[..., 0] * q[..., 1] + HALF) // ONE)


def certainty_counts(q: Numbers, g2: Numbers | None, haploid: Flags, counted: Flags) -> npt.NDArray[np.int64]:
    """Counts [ONE + 1] of the genotypes of GT by probability in thousandths, in the rows ``counted`` [l].

    Dosages ``q`` [l, n, 2] and probabilities of two ALT alleles ``g2`` [l, n] in thousandths; without ``g2`` the
    haplotypes are independent. The second dosage of ``haploid`` [n] samples must be 0.
    """
    counts = np.zeros(ONE + 1, dtype=np.int64)
    _count_certainty(q, np.empty((0, 0), dtype=np.int32) if g2 is None else g2, haploid, counted, counts)
    return counts


@jitted
def _count_certainty(q: Numbers, g2: Numbers, haploid: Flags, counted: Flags, counts: npt.NDArray[np.int64]) -> None:
    for row in np.flatnonzero(counted):
        certain = 0
        for sample in range(q.shape[1]):
            q1, q2 = q[row, sample, 0], q[row, sample, 1]
            if q1 == 0 and q2 == 0:
                certain += 1
                continue
            two = g2[row, sample] if len(g2) else (q1 * q2 + HALF) // ONE
            if haploid[sample]:
                two = 0
            if (q1 >= HALF) != (q2 >= HALF):
                counts[q1 + q2 - 2 * two] += 1
            else:
                counts[two if q1 >= HALF else ONE - q1 - q2 + two] += 1
        counts[ONE] += certain


def chosen_fields(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` in the order of FIELDS, each once, with GT. Raises ValueError for an unknown name."""
    wanted = {"GT", *names}
    unknown = wanted - set(FIELDS)
    if unknown:
        raise ValueError(", ".join(sorted(unknown)))
    return tuple(name for name in FIELDS if name in wanted)


class SampleTexts:
    """The texts of samples with the given ``fields``.

    In all methods ``q`` are haplotype dosages and ``g2`` probabilities of two ALT alleles, both in thousandths. ``gq``
    are genotype qualities 0..MAX_GQ, or NO_GQ; they are read only if GQ is a field.
    """

    def __init__(self, fields: Iterable[str] = DEFAULT_FIELDS) -> None:
        self.fields = chosen_fields(fields)
        shown = (name in self.fields for name in FIELDS[1:])
        self._spelling = _Spelling(_with_lengths(_SHORT), _with_lengths(_QUALITY), *shown)

    def rows(self, q: Numbers, g2: Numbers | None, gq: Numbers | None, haploid: Flags) -> list[bytes]:
        """The text of each row's samples, for ``q`` [l, n, 2], ``g2`` and ``gq`` [l, n] and ``haploid`` [n].

        Without ``g2`` the haplotypes are independent. The second haplotype of a haploid sample is not read.
        """
        none = np.empty((0, 0), dtype=np.int32)
        out = np.empty(q.shape[0] * q.shape[1] * _MAX_CELL + self._spelling.numbers.shape[1], dtype=np.uint8)
        zeros = none.view(np.uint8).reshape(-1) if self._spelling.gq else self._zeros(q.shape[1])
        g2, gq = none if g2 is None else g2, none if gq is None else gq
        stops = _put_rows(q, g2, gq, haploid, self._spelling, zeros, out)
        return [out[start:stop].tobytes() for start, stop in pairwise([0, *stops.tolist()])]

    def _zeros(self, n: int) -> Characters:
        """The text of n diploid samples whose dosages are 0."""
        values = {"DS": b":0", "HDS": b":0,0", "GP": b":1,0,0"}
        text = b"\t0|0" + b"".join(values[name] for name in self.fields[1:])
        return np.frombuffer(text * n, dtype=np.uint8)

    def multiallelic(self, q: Numbers, gq: Numbers | None) -> list[bytes]:
        """Texts of the samples of one record with k ALT alleles, for dosages ``q`` [k, n, ploidy] and ``gq`` [n]."""
        n_alts, n_samples, ploidy = q.shape
        probability = _with_ref(q)
        call = _called(probability)  # [n, ploidy]
        allele = np.array([b"%d" % a for a in range(n_alts + 1)], dtype=object)
        columns: list[Texts | bytes] = [b"\t", allele[call[:, 0]]]
        genotypes = [*probability[..., 0]]
        if ploidy == 2:
            columns += [b"|", allele[call[:, 1]]]
            genotypes = [(_unordered(probability, j, k) + HALF) // ONE for k in range(n_alts + 1) for j in range(k + 1)]
        # The ALT alleles of the first haplotype, then those of the second.
        haplotypes = np.moveaxis(q, 2, 0).reshape(-1, n_samples)
        for name, values in (("DS", q.sum(axis=2)), ("HDS", haplotypes), ("GP", genotypes)):
            if name in self.fields:
                for separator, value in zip([b":", *[b","] * (len(values) - 1)], values, strict=True):
                    columns += [separator, _SHORT[value]]
        if gq is not None:
            columns.append(_QUALITY[gq])
        text = np.empty((n_samples, len(columns)), dtype=object)
        for column, content in enumerate(columns):
            text[:, column] = content
        return [b"".join(row) for row in text.tolist()]


def _with_ref(q: npt.NDArray[np.integer]) -> Numbers:
    """Probabilities [1 + k, n, ploidy] of REF and k ALT alleles, from dosages [k, n, ploidy]."""
    return np.concatenate([np.maximum(ONE - q.sum(axis=0, keepdims=True), 0), q]).astype(np.int32)


def _called(probability: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The most probable allele [...] of probabilities [1 + k, ...].

    Of equal probabilities ALT is called and not REF, as in biallelic records.
    """
    return np.asarray((np.roll(probability, -1, axis=0).argmax(axis=0) + 1) % len(probability))


def _unordered(probability: npt.NDArray[np.integer], j: int, k: int) -> Numbers:
    """Probability [n], in millionths, that one haplotype has allele j and the other k, of [1 + k, n, 2]."""
    first, second = probability[..., 0], probability[..., 1]
    return np.asarray(first[j] * second[k] + (first[k] * second[j] if j != k else 0))


def phred(wrong: npt.NDArray[np.floating]) -> Numbers:
    """GQ of the probability that a genotype is wrong: -10 log10, rounded, at most MAX_GQ."""
    return np.asarray(np.rint(-10.0 * np.log10(np.clip(wrong, 1e-10, 1.0))).clip(0, MAX_GQ), dtype=np.int32)


def biallelic_gq(
    hds: npt.NDArray[np.floating], gp: npt.NDArray[np.floating] | None, called: npt.NDArray[np.bool_]
) -> Numbers:
    """GQ [l, n] of the written alleles ``called`` [l, n, ploidy].

    Uses the genotype probabilities ``gp`` [l, n, 3], or without them the ALT probabilities ``hds`` [l, n, ploidy] of
    independent haplotypes. All are in the written orientation. GQ belongs to the genotype of GT, which is the rounded
    HDS. If the phase of a certain heterozygote is unknown, GT may differ from the most probable genotype of GP, and GQ
    is low.
    """
    n_alt = called.sum(axis=-1)
    if hds.shape[-1] == 1:
        return phred(np.where(called, 1.0 - hds, hds.astype(np.float64))[..., 0])
    if gp is None:
        a, b = (hds[..., i].astype(np.float64) for i in (0, 1))
        gp = np.stack([(1.0 - a) * (1.0 - b), a * (1.0 - b) + b * (1.0 - a), a * b], axis=-1)
    # The sum of the other two is exact for small values in float32; 1 minus the largest is not.
    others = [gp[..., 1] + gp[..., 2], gp[..., 0] + gp[..., 2], gp[..., 0] + gp[..., 1]]
    return phred(np.choose(n_alt, others))


def multiallelic_gq(hds: npt.NDArray[np.floating], q: Numbers) -> Numbers:
    """GQ [n] of the written genotypes of a record with k ALT alleles.

    ``hds`` [k, n, ploidy] are the dosages, and ``q`` the same in thousandths.
    """
    probability = np.concatenate([1.0 - hds.sum(axis=0, keepdims=True), hds]).clip(0.0, 1.0)
    call = _called(_with_ref(q))  # [n, ploidy]
    sample = np.arange(q.shape[1])

    def chance(haplotype: int, of: int) -> npt.NDArray[np.floating]:
        """Probability [n] that ``haplotype`` has the allele called for haplotype ``of``."""
        return np.asarray(probability[call[:, of], sample, haplotype])

    if q.shape[2] == 1:
        return phred(1.0 - chance(0, 0))
    other_order = np.where(call[:, 0] == call[:, 1], 0.0, chance(0, 1) * chance(1, 0))
    return phred(1.0 - (chance(0, 0) * chance(1, 1) + other_order))
