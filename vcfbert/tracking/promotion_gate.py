"""The gate before the alias: what a bundle's figures must be for it to become champion, and the reasons it gives.

Three things are asked: the figure is at least the minimum; on the same data it is not below the champion's; and in no
MAF bin is r2 at the targets worse than the champion's beyond its interval, where both were evaluated at the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcfbert.errors import InputError
from vcfbert.metrics.paired_bootstrap import Difference, paired_differences, worse_bins
from vcfbert.metrics.r2_sums import R2Sums


@dataclass(frozen=True)
class Measured:
    """A bundle as the gate sees it. ``label``: such as 'v18' or 'version 3 (v18)'; ``data_digest`` names the data
    behind ``value``; ``moments`` are of its evaluation at the targets, None where it is not known."""

    label: str
    metric: str
    value: float
    data_digest: str = ""
    moments: R2Sums | None = None


@dataclass(frozen=True)
class Passed:
    """Why a bundle may become champion. ``differences`` from the champion, empty where they are not known; ``forced``:
    the reason given for it although the gate would refuse, '' where it would not."""

    why: str
    differences: tuple[Difference, ...] = ()
    forced: str = ""


def pass_gate(
    candidate: Measured,
    champion: Measured | None,
    *,
    minimum: float,
    name: str,
    alias: str,
    others: str = "",
    force: str = "",
) -> Passed:
    """Raises InputError 'gate_refused', unless ``force`` gives a reason to pass all the same.

    ``champion``: what stands on ``alias`` of model ``name``. ``others``: the figures of those not chosen.
    """
    refusals = [below_minimum(candidate.label, candidate.metric, candidate.value, minimum)]
    why = f"{candidate.label} has {candidate.metric} {candidate.value:.4f}{others}"
    why += "" if refusals[0] else f", at least {minimum:g}"
    differences: tuple[Difference, ...] = ()
    if champion is None:
        why += "; first of this alias"
    else:
        refusal, said = _against_figure(candidate, champion, name, alias)
        refusals.append(refusal)
        why += said
        refusal, said, differences = _against_bins(candidate, champion, name, alias)
        refusals.append(refusal)
        why += said
    refused = [refusal for refusal in refusals if refusal is not None]
    if not refused:
        return Passed(why, differences)
    if not force.strip():
        raise refused[0]
    objections = "; ".join(refusal.what for refusal in refused)
    return Passed(f"{why}; forced ({force.strip()}) although {objections}", differences, force.strip())


def below_minimum(label: str, metric: str, value: float, minimum: float) -> InputError | None:
    """The refusal of a figure that is too low, or NaN."""
    if value >= minimum:
        return None
    return InputError(
        "gate_refused",
        f"{label} has {metric} {value:.4f}, and {minimum:g} is the least to be published",
        hint="train longer or on more samples, or lower publish.minimum if you know why",
    )


def _against_figure(candidate: Measured, champion: Measured, name: str, alias: str) -> tuple[InputError | None, str]:
    """A refusal, or what is to be said, of the figure that variants are chosen by."""
    same_data = not candidate.data_digest or not champion.data_digest or candidate.data_digest == champion.data_digest
    if candidate.metric != champion.metric or not same_data:
        return None, f"; not compared with {champion.label}, which was measured by another metric or on other data"
    if candidate.value >= champion.value:
        return None, f"; not below the {champion.value:.4f} of {champion.label}"
    refusal = InputError(
        "gate_refused",
        f"{candidate.label} has {candidate.metric} {candidate.value:.4f}, below the {champion.value:.4f} of "
        f"{alias} {champion.label}",
        where=name,
        hint="the champion stays; train a better one, publish under another name, or give a reason to force it",
    )
    return refusal, ""


def _against_bins(
    candidate: Measured, champion: Measured, name: str, alias: str
) -> tuple[InputError | None, str, tuple[Difference, ...]]:
    """A refusal, or what is to be said, of r2 at the targets by MAF bin, and the differences."""
    if candidate.moments is None or champion.moments is None:
        return None, "", ()
    if not candidate.moments.pairs_with(champion.moments):
        return None, "; not evaluated at the same targets and sites, so bins are not compared", ()
    differences = paired_differences(candidate.moments, champion.moments)
    worse = worse_bins(differences)
    if not worse:
        unknown = ", ".join(difference.bin for difference in differences if difference.verdict == "unknown")
        unjudged = f" ({unknown}: too few samples or sites to tell)" if unknown else ""
        return None, f"; at the targets worse in no MAF bin beyond its interval{unjudged}", differences
    refusal = InputError(
        "gate_refused",
        f"{candidate.label} is at the targets worse than {alias} {champion.label} beyond the interval of r2: "
        + "; ".join(difference.text() for difference in worse),
        where=name,
        hint="the champion stays; train one that loses in no bin, or give a reason to force it",
    )
    return refusal, "", differences
