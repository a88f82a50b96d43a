"""The texts of samples in a record of imputed genotypes, looked up by the small integers on which they depend.

Each distinct text is built once and gets a number. A compiled loop concatenates the texts of a record, so that no
Python loop runs over samples. A haploid sample has one HDS, which is also its DS, a GT of one allele and a GP of two
values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Numbers, compiled

# The fields that FORMAT may have, in written order. GT is always written.
FIELDS: Final = ("GT", "DS", "HDS", "GP", "GQ")
DEFAULT_FIELDS: Final = ("GT", "DS", "HDS", "GP")

ONE: Final = 1000  # probabilities are in whole thousandths
HALF: Final = 500
MAX_GQ: Final = 99
NO_GQ: Final = 100  # stands for '.'

Characters = npt.NDArray[np.uint8]
Texts = npt.NDArray[np.object_]


def _short(thousandths: int) -> bytes:
    """0 -> 0, 50 -> 0.05, 1000 -> 1."""
    return (b"%d.%03d" % divmod(thousandths, ONE)).rstrip(b"0").rstrip(b".")


_SHORT: Final = np.array([_short(i) for i in range(2 * ONE + 1)], dtype=object)
# Numbers and genotypes as characters padded with NUL, from which new texts are assembled.
_NUMBER: Final = _SHORT.astype("S5").view(np.uint8).reshape(-1, 5)
_GENOTYPE: Final = np.array([b"\t0|0", b"\t0|1", b"\t1|0", b"\t1|1"]).view(np.uint8).reshape(4, 4)
_ALLELE: Final = np.array([b"\t0", b"\t1"]).view(np.uint8).reshape(2, 2)
_QUALITY: Final = np.array([b":%d" % q for q in range(MAX_GQ + 1)] + [b":."], dtype=object)


class TextStore:
    """Texts by number: all characters in one array, with the start and length of each text. Number 0 is empty."""

    def __init__(self) -> None:
        self._characters = np.zeros(1 << 16, dtype=np.uint8)
        self._used = 0
        self._start = np.zeros(1, dtype=np.uint32)
        self._length = np.zeros(1, dtype=np.uint8)

    def table(self, size: int, build: Callable[[Numbers], list[bytes]]) -> TextTable:
        """A table for codes 0 to ``size`` - 1, whose texts ``build`` makes."""
        first = len(self._start)
        self._start = np.zeros(first + size, dtype=np.uint32)
        self._length = np.zeros(first + size, dtype=np.uint8)
        return TextTable(self, first, size, build)

    def add(self, numbers: Numbers, texts: list[bytes]) -> None:
        """Stores the texts of the given numbers."""
        length = np.array([len(text) for text in texts], dtype=np.int64)
        stop = self._used + np.cumsum(length)
        if stop[-1] > len(self._characters):
            self._characters = np.concatenate([self._characters, np.zeros(int(stop[-1]), dtype=np.uint8)])
        self._characters[self._used : stop[-1]] = np.frombuffer(b"".join(texts), dtype=np.uint8)
        self._start[numbers], self._length[numbers] = stop - length, length
        self._used = int(stop[-1])

    def joined(self, numbers: npt.NDArray[np.int32]) -> list[bytes]:
        """The concatenated texts of each row of ``numbers`` [l, c]."""
        stop = np.cumsum(_row_lengths(numbers, self._length))
        out = np.empty(int(stop[-1]) if len(stop) else 0, dtype=np.uint8)
        _put(numbers, self._start, self._length, self._characters, out)
        text = out.tobytes()
        return [text[start:end] for start, end in pairwise([0, *stop.tolist()])]


class TextTable:
    """The texts of integer codes below ``size``. ``build`` makes the text of a code at its first use."""

    def __init__(self, store: TextStore, first: int, size: int, build: Callable[[Numbers], list[bytes]]) -> None:
        self._store = store
        self._first = first
        self._known = np.zeros(size, dtype=bool)
        self._build = build

    def __getitem__(self, codes: Numbers) -> Numbers:
        """The numbers of the codes' texts, in the same shape."""
        unseen = codes[~self._known[codes]]
        if unseen.size:
            new = np.unique(unseen)
            self._store.add(new + self._first, self._build(new))
            self._known[new] = True
        return np.asarray(codes + self._first, dtype=np.int32)


@compiled
def _row_lengths(numbers: Any, length: Any) -> Any:
    """[l]: number of characters of each row of texts."""
    out = np.zeros(len(numbers), np.int64)
    for row in range(len(numbers)):
        for number in numbers[row]:
            out[row] += length[number]
    return out


@compiled
def _put(numbers: Any, start: Any, length: Any, characters: Any, out: Any) -> None:
    """Writes the characters of the texts to ``out``."""
    place = 0
    for row in range(len(numbers)):
        for number in numbers[row]:
            first = start[number]
            for i in range(length[number]):
                out[place + i] = characters[first + i]
            place += length[number]


def _spelled(columns: list[Characters | bytes]) -> list[bytes]:
    """Texts [m] concatenated from columns: constants, or character matrices [m, width] padded with NUL."""
    rows = next(len(column) for column in columns if not isinstance(column, bytes))
    matrices = [
        np.broadcast_to(np.frombuffer(column, np.uint8), (rows, len(column))) if isinstance(column, bytes) else column
        for column in (*columns, b"\n")
    ]
    return np.concatenate(matrices, axis=1).tobytes().translate(None, b"\0").split(b"\n")[:-1]


def independent_g2(q: Numbers) -> Numbers:
    """Probability of two ALT alleles where the haplotypes [..., 2] are independent, in thousandths."""
    return np.asarray((q[..., 0] * q[..., 1] + HALF) // ONE)


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
        size = (ONE + 1) ** 2
        store = TextStore()
        self.joined = store.joined
        # Partial functions and no methods: in a reference cycle with their owner, tables of megabytes would stay in
        # memory until the garbage collector runs.
        self._independent = store.table(size, partial(_independent_texts, self.fields))
        self._heads = store.table(size, partial(_head_texts, self.fields))
        self._tails = store.table(2 * size, _tail_texts)
        self._haploid = store.table(ONE + 1, partial(_haploid_texts, self.fields))
        self._qualities = store.table(len(_QUALITY), lambda gq: _QUALITY[gq].tolist())

    def diploid(self, q: Numbers, g2: Numbers | None, gq: Numbers | None) -> list[Numbers]:
        """Numbers [l, n] of each part of the samples' texts, in order, for ``q`` [l, n, 2], ``g2`` and ``gq`` [l, n].

        Without ``g2`` the haplotypes are independent.
        """
        code = q[..., 0] * (ONE + 1) + q[..., 1]
        if g2 is None or "GP" not in self.fields:
            parts = [self._independent[code]]
        else:
            parts = [self._heads[code], self._tails[(q[..., 0] + q[..., 1]) * (ONE + 1) + g2]]
        return parts if gq is None else [*parts, self._qualities[gq]]

    def haploid(self, q: Numbers) -> Numbers:
        """Numbers [l, n] of the texts of haploid samples with dosages ``q`` [l, n], without GQ."""
        return self._haploid[q]

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


def _head(fields: tuple[str, ...], code: Numbers) -> list[Characters | bytes]:
    """GT, DS and HDS of a sample with the haplotype dosages ``divmod(code, 1001)``."""
    q1, q2 = np.divmod(code, ONE + 1)
    columns: list[Characters | bytes] = [_GENOTYPE[2 * (q1 >= HALF) + (q2 >= HALF)]]
    if "DS" in fields:
        columns += [b":", _NUMBER[q1 + q2]]
    if "HDS" in fields:
        columns += [b":", _NUMBER[q1], b",", _NUMBER[q2]]
    return columns


def _tail(ds: Numbers, g2: Numbers) -> list[Characters | bytes]:
    """GP of a dosage and a probability of two ALT alleles."""
    return [b":", _NUMBER[ONE - ds + g2], b",", _NUMBER[ds - 2 * g2], b",", _NUMBER[g2]]


def _head_texts(fields: tuple[str, ...], code: Numbers) -> list[bytes]:
    return _spelled(_head(fields, code))


def _tail_texts(code: Numbers) -> list[bytes]:
    return _spelled(_tail(*np.divmod(code, ONE + 1)))


def _independent_texts(fields: tuple[str, ...], code: Numbers) -> list[bytes]:
    q = np.stack(np.divmod(code, ONE + 1), axis=-1)
    return _spelled(_head(fields, code) + (_tail(q.sum(axis=-1), independent_g2(q)) if "GP" in fields else []))


def _haploid_texts(fields: tuple[str, ...], q: Numbers) -> list[bytes]:
    columns: list[Characters | bytes] = [_ALLELE[(q >= HALF).astype(np.int64)]]
    for name, values in (("DS", [q]), ("HDS", [q]), ("GP", [ONE - q, q])):
        if name in fields:
            for separator, value in zip([b":", b","], values, strict=False):
                columns += [separator, _NUMBER[value]]
    return _spelled(columns)


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
