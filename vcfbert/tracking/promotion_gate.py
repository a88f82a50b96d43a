"""The promotion gate: the conditions for a bundle to become champion, and the reasons of the decision.

There are three conditions. The figure is at least the minimum. On the same data, it is not below the champion's. If
both were evaluated at the same targets, r2 is not worse than the champion's in any MAF bin, outside its interval.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcfbert.errors import InputError
from vcfbert.metrics.paired_bootstrap import Difference, paired_differences, worse_bins
from vcfbert.metrics.r2_sums import R2Sums


@dataclass(frozen=True)
class Measured:
    """A bundle's figures for the promotion gate.

    ``label``: for example 'v18' or 'version 3 (v18)'. ``data_digest`` identifies the data behind ``value``; '' if
    unknown. ``r2_sums`` are of its evaluation at the targets; None if unknown.
    """

    label: str
    metric: str
    value: float
    data_digest: str = ""
    r2_sums: R2Sums | None = None


@dataclass(frozen=True)
class Passed:
    """The reason why a bundle may become champion.

    ``differences`` are from the champion; empty if unknown. ``forced`` is the user's reason to pass although the gate
    refuses; '' if it does not refuse.
    """

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
    """Checks the conditions. Raises InputError 'gate_refused', unless ``force`` gives a reason to pass anyway.

    ``champion``: the bundle that has ``alias`` of model ``name``. ``others``: text with the figures of the candidates
    that were not chosen.
    """
    refusals = [below_minimum(candidate.label, candidate.metric, candidate.value, minimum)]
    why = f"{candidate.label} has {candidate.metric} {candidate.value:.4f}{others}"
    why += "" if refusals[0] else f", at least {minimum:g}"
    differences: tuple[Difference, ...] = ()
    if champion is None:
        why += "; first of this alias"
    else:
        refusal, text = _against_figure(candidate, champion, name, alias)
        refusals.append(refusal)
        why += text
        refusal, text, differences = _against_bins(candidate, champion, name, alias)
        refusals.append(refusal)
        why += text
    refused = [refusal for refusal in refusals if refusal is not None]
    if not refused:
        return Passed(why, differences)
    if not force.strip():
        raise refused[0]
    objections = "; ".join(refusal.what for refusal in refused)
    return Passed(f"{why}; forced ({force.strip()}) although {objections}", differences, force.strip())


def below_minimum(label: str, metric: str, value: float, minimum: float) -> InputError | None:
    """The refusal of a figure that is too low or NaN; None for any other."""
    if value >= minimum:
        return None
    return InputError(
        "gate_refused",
        f"{label} has {metric} {value:.4f}, and the minimum for publishing is {minimum:g}",
        hint="train longer or on more samples, or lower publish.minimum if you know why",
    )


def _against_figure(candidate: Measured, champion: Measured, name: str, alias: str) -> tuple[InputError | None, str]:
    """Compares the metric with the champion's: a refusal or None, and the text for the reason."""
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
        hint="the champion stays; train a better model, publish under another name, or give a reason to force it",
    )
    return refusal, ""


def _against_bins(
    candidate: Measured, champion: Measured, name: str, alias: str
) -> tuple[InputError | None, str, tuple[Difference, ...]]:
    """Compares r2 at the targets by MAF bin: a refusal or None, the text for the reason, and the differences."""
    if candidate.r2_sums is None or champion.r2_sums is None:
        return None, "", ()
    if not candidate.r2_sums.pairs_with(champion.r2_sums):
        return None, "; not evaluated at the same targets and sites, so bins are not compared", ()
    differences = paired_differences(candidate.r2_sums, champion.r2_sums)
    worse = worse_bins(differences)
    if not worse:
        unknown = ", ".join(difference.bin for difference in differences if difference.verdict == "unknown")
        unjudged = f" ({unknown}: too few samples or sites for an interval)" if unknown else ""
        return None, f"; worse in no MAF bin at the targets, outside its interval{unjudged}", differences
    refusal = InputError(
        "gate_refused",
        f"{candidate.label} is worse than {alias} {champion.label} at the targets, outside the interval of r2: "
        + "; ".join(difference.text() for difference in worse),
        where=name,
        hint="the champion stays; train a model that is worse in no bin, or give a reason to force it",
    )
    return refusal, "", differences
