"""Imputation with a bundle: a matched target in, blocks of imputed sites out. Knows no HTTP and no MLflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.bundle import Bundle, Part
from vcfbert.constants import MISSING
from vcfbert.copying.diploid import consensus
from vcfbert.errors import InputError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.windows import Window, blend_weights
from vcfbert.imputation.phasing import DEFAULT_MODE, MODES, Phasings, draw_phasings, orientation
from vcfbert.imputation.progress import Progress, SitesDone
from vcfbert.model.base import SiteContext, Variant, WindowOutput
from vcfbert.model.heads import independent
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext, key_sites
from vcfbert.retrieval.ready import KeptWindows, ReadyWindow, ReadyWindows

FloatArray = npt.NDArray[np.float32]
Calls = npt.NDArray[np.int8]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WindowPrediction:
    """Of one window's l sites for n samples: ALT probabilities [l, n, 2]; genotype probabilities [l, n, 3], None if the
    haplotypes are independent; and ALT probabilities at typed sites without their own calls [l, n, 2], NaN where there
    is none, None if the model does not tell."""

    haplotype: FloatArray
    genotype: FloatArray | None
    left_out: FloatArray | None = None

    @property
    def genotypes(self) -> FloatArray:
        """[l, n, 3], of independent haplotypes too."""
        if self.genotype is not None:
            return self.genotype
        return of_independent(self.haplotype)

    def times(self, weight: FloatArray) -> WindowPrediction:
        """Each site's values by its weight [l]."""
        return self._each(lambda values: values * weight[:, None, None])

    def sites(self, inside: slice) -> WindowPrediction:
        return self._each(lambda values: values[inside])

    def _each(self, change: Callable[[FloatArray], FloatArray]) -> WindowPrediction:
        genotype, left_out = self.genotype, self.left_out
        return WindowPrediction(
            change(self.haplotype),
            None if genotype is None else change(genotype),
            None if left_out is None else change(left_out),
        )


@dataclass(frozen=True)
class PhasedTarget:
    """A target with every sample's calls in phase; ``phasings`` of the samples that came without, None if all did
    with."""

    target: MatchedTarget
    phasings: Phasings | None


class Imputer:
    """Imputes targets from their typed sites. One instance serves many calls; it keeps nothing of their samples."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        batch_size: int = 64,
        mode: str = DEFAULT_MODE,
        ignore_phase: bool = False,
        kept_bytes: int = 0,
    ) -> None:
        """``mode``: how much unphased targets are worth, a key of ``phasing.MODES``; ``ignore_phase`` takes phased ones
        for unphased, because a phase that was inferred has errors that an average over phasings evens out.
        ``kept_bytes``: memory for windows that are kept for the next target of the same typed sites."""
        self.bundle = bundle
        self.batch_size = batch_size
        if mode not in MODES:
            raise InputError("mode", f"there is no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
        if ignore_phase and not bundle.model.takes_unphased:
            raise InputError("ignore_phase", f"{bundle.variant} needs the phase", hint="leave out --ignore-phase")
        self.mode = MODES[mode]
        self.ignore_phase = ignore_phase
        kept = KeptWindows(kept_bytes)
        self._windows = {
            part.panel.digest: ReadyWindows(bundle.model, part.memory, part.features, bundle.k, kept)
            for part in bundle.parts
        }

    def impute(
        self,
        target: MatchedTarget | PhasedTarget,
        *,
        sites: tuple[int, int] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], None] | None = None,
    ) -> Generator[ImputedBlock]:
        """Blocks that tile the sites of the target's panel, or the half-open interval ``sites`` of them, in order.

        Each sample is imputed as if it were alone: along its own phase, or over phasings where any of its heterozygous
        calls is unphased. Memory is bounded by a window times the number of samples. ``progress`` is told the sites
        done; of a target without phase a third of them, by and by, while it is phased. ``cancelled`` is called before
        every stretch that is phased and before every window, and raises to stop.
        Raises InputError('unphased') if a sample is unphased and the model cannot take it.
        """
        check = cancelled or _go_on
        matched = target.target if isinstance(target, PhasedTarget) else target
        part = self.bundle.part(matched.panel_digest)
        first, last = sites or (0, part.panel.n_sites)
        done = SitesDone(progress, last - first)
        phased = target if isinstance(target, PhasedTarget) else self.phase(target, check, done.phased)
        calls = _calls(phased.target, part.panel.n_sites)
        for start, stop, prediction in self._blended(part, phased, first, last, check):
            low, high = max(start, first), min(stop, last)
            if low < high:
                typed = _dense(calls, phased.target, low, high)
                own = prediction.sites(slice(low - start, high - start))
                genotype = _of_phased_alone(own, phased)
                yield ImputedBlock(low, high, own.haplotype, typed, genotype, own.left_out)
                done.imputed(high - low)

    def reach(self, part: Part, sites: tuple[int, int], typed: Index) -> slice:
        """Which of the ``typed`` sites [m] of the part's panel are used to impute the interval ``sites`` of them: with
        no others the result is the same."""
        windows, cm = part.windows, part.panel.cm
        keys = [key_sites(window, typed, cm) for window in _overlapping(windows, *sites)]
        first, last = min(key[0] for key in keys), max(key[-1] for key in keys)
        return slice(int(np.searchsorted(typed, first)), int(np.searchsorted(typed, last)) + 1)

    def phase(
        self,
        target: MatchedTarget,
        check: Callable[[], None] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> PhasedTarget:
        """The target with every sample's calls in phase, haploid ones doubled, and phasings of the samples that came
        without. A sample's are its own, whoever else is there; they hold together along the chromosome, so the target
        must be whole along it. ``check`` is called before every stretch, and raises to stop; ``progress`` is told
        after each which share of it all is done.

        In a phased sample a half call without order, such as 0/., is missing: its haplotype is not known.
        """
        part, target = self.bundle.part(target.panel_digest), target.homozygous_coded()
        alleles = target.alleles.copy()
        alleles[~target.phased & (alleles == MISSING).any(axis=2)] = MISSING
        samples = np.flatnonzero(target.unphased.any(axis=0) | self.ignore_phase)
        phasings = None
        if len(samples):
            hmm = self.bundle.model.phasing_hmm
            if hmm is None:
                raise unphased_error(target, part.panel)
            drawn = draw_phasings(
                hmm,
                part.memory,
                target.panel_site,
                target.alleles[:, samples],
                self.mode,
                check=check or _go_on,
                progress=progress,
            )
            phasings = Phasings(samples, drawn)
            alleles[:, samples] = consensus(phasings.calls)
        return PhasedTarget(dataclasses.replace(target, alleles=alleles), phasings)

    def _blended(
        self, part: Part, phased: PhasedTarget, first: int, last: int, check: Callable[[], None]
    ) -> Iterator[tuple[int, int, WindowPrediction]]:
        """Finished stretches of sites: windows overlap, and a site is finished when no later window covers it."""
        windows, cm = part.windows, part.panel.cm
        wanted = _overlapping(windows, first, last)
        carried: WindowPrediction | None = None
        for window, following in zip(wanted, [*wanted[1:], None], strict=True):
            check()
            prediction = self.predict_window(part, window, phased.target, phased.phasings)
            weighted = prediction.times(blend_weights(window, windows, cm))
            if carried is not None:
                _add(carried, weighted)
            done = (following.start if following else window.stop) - window.start
            yield window.start, window.start + done, weighted.sites(slice(done))
            carried = weighted.sites(slice(done, None))

    @torch.inference_mode()
    def predict_window(
        self, part: Part, window: Window, target: MatchedTarget, phasings: Phasings | None = None
    ) -> WindowPrediction:
        """Of samples with ``phasings`` the mean over them is predicted, its haplotypes those of the target's own phase.
        Of the others it is that phase alone."""
        windows, key = self._windows[part.panel.digest], key_sites(window, target.panel_site, part.panel.cm)
        place = np.searchsorted(target.panel_site, key)
        alleles = target.alleles[place]
        parts: list[tuple[Index, WindowPrediction]] = []
        unphased = np.empty(0, dtype=np.int64) if phasings is None else phasings.samples
        phased = np.setdiff1d(np.arange(len(target.samples)), unphased)
        if len(phased):
            ready = windows.get(window, key)
            parts.append((phased, self._along_phase(part, alleles[:, phased], ready)))
        if phasings is not None:
            ready = windows.get(window, key, drawn=True)
            for start in range(0, len(unphased), self.batch_size):  # at once they would be many rows
                some = slice(start, start + self.batch_size)
                drawn = phasings.calls[:, place, some]
                parts.append((unphased[some], self._mean_over(part, drawn, alleles[:, unphased[some]], ready)))
        return _side_by_side(parts)

    def _along_phase(self, part: Part, calls: Calls, ready: ReadyWindow) -> WindowPrediction:
        """Of samples with ``calls`` [t, n, 2] of the key, each haplotype for itself."""
        outputs = self._predicted(part, calls, ready)
        probability, coupled, left_out = _whole(outputs)
        genotype = None if coupled is None else coupled.permute(1, 0, 2).numpy()
        return WindowPrediction(probability.permute(2, 0, 1).numpy(), genotype, _at_sites(left_out, ready.context))

    def _predicted(self, part: Part, calls: Calls, ready: ReadyWindow) -> list[WindowOutput]:
        """Of samples with ``calls`` [t, n, 2] of the key."""
        alleles = calls.reshape(len(calls), -1).T  # [2n, t]
        device = self.bundle.device
        known = None if (alleles != MISSING).all() else torch.from_numpy(alleles != MISSING).to(device)
        queries = torch.from_numpy(np.maximum(alleles, 0).astype(np.uint8)).to(device)
        model, k = self.bundle.model, self.bundle.k
        return list(predict_batches(model, part.retriever, ready, queries, known, k=k, batch_size=self.batch_size))

    def _mean_over(self, part: Part, phasings: Calls, phase: Calls, ready: ReadyWindow) -> WindowPrediction:
        """``phasings`` [s, t, n, 2] and the consensus ``phase`` [t, n, 2] of the key. The two haplotypes of a sample
        are independent given a phasing."""
        s, t, n, _ = phasings.shape
        outputs = self._predicted(part, phasings.transpose(1, 0, 2, 3).reshape(t, s * n, 2), ready)
        sites = ready.context.sites
        turned = torch.from_numpy(orientation(phasings, phase, sites.key_offset_cm.cpu().numpy()))  # [s, t, n]
        turned = turned.permute(0, 2, 1)[:, :, None]  # [s, n, 1, t]
        along = turned[..., nearest_key(sites).cpu()]

        def mean(values: Tensor, other: Tensor) -> Tensor:
            """[n, 2, ...] along the phase, of values [s n, 2, ...]."""
            values = values.view(s, n, 2, -1)
            return torch.where(other, values.flip(2), values).mean(dim=0)

        p, _, left_out = _whole(outputs)  # [s n, 2, l]
        haplotype = mean(p, along)
        both = (p[:, 0] * p[:, 1]).view(s, n, -1).mean(dim=0)
        either = haplotype.sum(dim=1) - both
        genotype = torch.stack([1.0 - either, either - both, both], dim=-1)  # [n, l, 3]
        left_out = None if left_out is None else mean(left_out, turned)
        return WindowPrediction(
            haplotype.permute(2, 0, 1).numpy(), genotype.permute(1, 0, 2).numpy(), _at_sites(left_out, ready.context)
        )


def _go_on() -> None:
    """Never stops anything."""


def _whole(outputs: list[WindowOutput]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The outputs of all batches: probability, genotype probabilities unless independent, and left-out ones if told."""

    def joined(name: str) -> Tensor | None:
        parts = [part for part in (getattr(output, name) for output in outputs) if part is not None]
        return torch.cat(parts).float().cpu() if parts else None

    probability = joined("probability")
    assert probability is not None
    return probability, joined("coupled"), joined("left_out")


def _at_sites(left_out: Tensor | None, context: WindowContext) -> FloatArray | None:
    """[l, n, 2] of the window's sites, NaN where not typed, from [n, 2, t] of the key."""
    if left_out is None:
        return None
    place = context.sites.key_place[context.typed_in_key].cpu().numpy()
    sites = np.full((len(context.typed), *left_out.shape[:2]), np.nan, dtype=np.float32)
    sites[place] = left_out[..., context.typed_in_key.cpu()].permute(2, 0, 1).numpy()
    return sites


def _side_by_side(parts: list[tuple[Index, WindowPrediction]]) -> WindowPrediction:
    """One prediction of all samples, in order, from those of some, by number."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([samples for samples, _ in parts]))

    def joined(name: str) -> FloatArray:
        return np.concatenate([getattr(part, name) for _, part in parts], axis=1)[:, order]

    left_out = None if any(part.left_out is None for _, part in parts) else joined("left_out")
    return WindowPrediction(joined("haplotype"), joined("genotypes"), left_out)


def _of_phased_alone(prediction: WindowPrediction, phased: PhasedTarget) -> FloatArray | None:
    """Genotype probabilities [l, n, 3]; in a file with unphased samples those of the others are what they would be
    without such company, of independent haplotypes."""
    genotype = prediction.genotype
    if genotype is not None and phased.phasings is not None:
        rest = np.setdiff1d(np.arange(genotype.shape[1]), phased.phasings.samples)
        genotype[:, rest] = of_independent(prediction.haplotype[:, rest])
    return genotype


def of_independent(haplotype: FloatArray) -> FloatArray:
    """Genotype probabilities [..., 3] of independent haplotypes with ALT probabilities [..., 2]."""
    p, q = torch.from_numpy(haplotype).unbind(dim=-1)
    return independent(p, q).numpy()


def _overlapping(windows: list[Window], first: int, last: int) -> list[Window]:
    return [w for w in windows if w.start < last and w.stop > first]


def _add(carried: WindowPrediction, weighted: WindowPrediction) -> None:
    """Adds what an earlier window says of the first sites."""
    for name in ("haplotype", "genotype", "left_out"):
        before, after = getattr(carried, name), getattr(weighted, name)
        if before is not None:
            after[: len(before)] += before


def nearest_key(sites: SiteContext) -> Tensor:
    """[l]: the typed site of the key that lies nearest to each site of the window."""
    key = sites.key_offset_cm
    right = torch.searchsorted(key, sites.offset_cm).clamp(max=len(key) - 1)
    left = (right - 1).clamp(min=0)
    return torch.where((sites.offset_cm - key[left]).abs() <= (key[right] - sites.offset_cm).abs(), left, right)


def predict_batches(
    model: Variant,
    retriever: Retriever,
    ready: ReadyWindow,
    queries: Tensor,
    known: Tensor | None,
    *,
    k: int,
    batch_size: int,
    exclude: Tensor | None = None,
) -> Iterator[WindowOutput]:
    """What the model says of queries uint8 [2n, t], in batches.

    What is alike passes the encoder once: retrieved haplotypes alike in the window, however many queries use them, and
    the queries of a batch alike in the key. At array density every other haplotype of 200 samples is.
    """
    key, distance = ready.context.key, ready.context.sites.key_distance_cm
    rows = retriever.retrieve(key, distance, queries, k, known=known, exclude=exclude)
    context, rows, encoded = ready.narrowed(model, rows)
    for start in range(0, len(queries), 2 * batch_size):
        chunk = slice(start, start + 2 * batch_size)
        first, place = distinct_queries(queries[chunk], rows[chunk], None if known is None else known[chunk])
        first = first + start
        batch = context.batch(queries[first], rows[first], None if known is None else known[first])
        yield model(dataclasses.replace(batch, pairs=place.view(-1, 2)), encoded)


def distinct_queries(queries: Tensor, rows: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the distinct ones among queries uint8 [n, t] first stand, int64 [u], and which of them each is, int64 [n].

    Queries are alike if their alleles, the ``known`` ones and the retrieved ``rows`` int64 [n, k] are: the model then
    says the same of them. ``u`` is even, the last repeated if need be, because batches hold pairs.
    """
    parts = [np.packbits(queries.cpu().numpy(), axis=1), rows.cpu().numpy().view(np.uint8)]
    if known is not None:
        parts.append(np.packbits(known.cpu().numpy(), axis=1))
    seen: dict[bytes, int] = {}
    place = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in np.concatenate(parts, axis=1)])
    first = np.unique(place, return_index=True)[1]
    if len(first) % 2:
        first = np.append(first, first[-1])
    return torch.from_numpy(first).to(queries.device), torch.from_numpy(place).to(queries.device)


def unphased_error(target: MatchedTarget, panel: Panel) -> InputError:
    unphased = target.unphased
    n_samples = np.count_nonzero(unphased.any(axis=0))
    first = target.panel_site[np.argmax(unphased.any(axis=1))]
    return InputError(
        "unphased",
        f"{n_samples} of {len(target.samples)} samples have unphased heterozygous calls; this model needs phased ones",
        where=f"target, first at {panel.sites.chrom}:{panel.sites.pos[first]}",
        hint="phase it first, e.g. `beagle gt=TARGET ref=PANEL impute=false out=PHASED` or SHAPEIT5 / Eagle2",
    )


def _calls(target: MatchedTarget, n_sites: int) -> npt.NDArray[np.int64]:
    """[n_sites]: the row of each panel site in the target, -1 where untyped."""
    row = np.full(n_sites, -1, dtype=np.int64)
    row[target.panel_site] = np.arange(len(target.panel_site))
    return row


def _dense(row: npt.NDArray[np.int64], target: MatchedTarget, low: int, high: int) -> npt.NDArray[np.int8]:
    """Typed alleles int8 [high - low, n, 2] of panel sites [low, high), -1 where untyped."""
    calls = np.full((high - low, len(target.samples), 2), MISSING, dtype=np.int8)
    typed = row[low:high] >= 0
    calls[typed] = target.alleles[row[low:high][typed]]
    return calls
