"""V19 against plain Li-Stephens, its compiled code against the torch code, and its parts by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.helpers.batches import batch_of, context_of, mismatches, retrieved_alleles, with_untyped_alleles_changed
from tests.helpers.tiny import TINY_MODEL, perturbed, random_panel
from vcfbert.model.base import SiteContext, WindowBatch
from vcfbert.model.li_stephens import CopyingProblem, LiStephens, interpolated_dosage
from vcfbert.model.losses import allele_loss
from vcfbert.model.v19 import HEADS, INITIAL_MIXTURE, INITIAL_RATES, KNOTS, V19, intervals_of, knot_weights, observed
from vcfbert.model.variants import create

PANEL = random_panel(12, 40, seed=1)


def model_of(*, seed: int = 5) -> V19:
    model = perturbed("v19", seed=seed)
    assert isinstance(model, V19)
    return model


def untrained() -> V19:
    model = create("v19", TINY_MODEL)
    assert isinstance(model, V19)
    return model


def with_missing(batch: WindowBatch) -> WindowBatch:
    known = torch.rand(batch.key_sign.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    return dataclasses.replace(batch, key_sign=batch.key_sign * known)


def probability(model: V19, batch: WindowBatch) -> torch.Tensor:
    return model(batch).logit.sigmoid()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("missing", [False, True])
def test_compiled_forward_equals_torch_forward(seed: int, missing: bool) -> None:
    batch = batch_of(PANEL, b=3, k=6, seed=seed)
    if missing:
        batch = with_missing(batch)
    model = model_of(seed=seed)
    with_gradient = model(batch)
    assert with_gradient.logit.requires_grad
    with torch.no_grad():
        compiled = model(batch)
    torch.testing.assert_close(compiled.logit.sigmoid(), with_gradient.logit.sigmoid().detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(compiled.genotype, with_gradient.genotype.detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("typed", [[0], [20], [39], [0, 1, 38, 39], list(range(40))])
def test_compiled_forward_equals_torch_for_any_typed_sites(typed: list[int]) -> None:
    context = context_of(PANEL)
    whole = context_of(PANEL, every=1)
    key = torch.tensor(typed)
    sites = dataclasses.replace(
        context.sites,
        **{name: getattr(whole.sites, name)[key] for name in vars(context.sites) if name.startswith("key_")},
    )
    rows = torch.arange(12).view(2, 6)
    batch = dataclasses.replace(
        batch_of(PANEL, b=1, k=6),
        sites=sites,
        patterns=context.patterns,
        retrieved=context.pattern_of[rows][None],
        key_sign=(1 - 2 * whole.key_alleles[20:22][:, key].to(torch.int8))[None],
        key_rows=whole.key_alleles[:, key],
        key_retrieved=rows[None],
    )
    model = model_of()
    with torch.no_grad():
        compiled = probability(model, batch)
    torch.testing.assert_close(compiled, probability(model, batch).detach(), atol=1e-4, rtol=0)


def test_every_parameter_gets_a_finite_gradient() -> None:
    model, batch = model_of(), with_missing(batch_of(PANEL))
    truth = torch.randint(0, 2, (3, 2, 32), generator=torch.Generator().manual_seed(2))
    output = model(batch)
    (allele_loss(output.logit, truth, torch.ones(32), gamma=0.0) + output.genotype.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name  # else DDP would wait for it
        if parameter.grad is None:
            assert name.startswith(("embedding.shift.", "phasing.", "drawn_heads.", "drawn_share")), name
            continue
        assert parameter.grad.isfinite().all(), name
    for parameter in (model.share, model.lost, model.gained, model.log_strength, *model.heads.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_prior_passes_gradient_to_embedding() -> None:
    model, batch = untrained(), batch_of(PANEL)
    model(batch).logit.square().mean().backward()
    last = model.embedding.scale[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 0


def test_gradients_equal_finite_differences() -> None:
    model, batch = model_of(), batch_of(PANEL, b=1, k=4)
    toward = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(1))
    probability(model, batch).mul(toward).sum().backward()
    for parameter in (model.log_strength, model.heads[0].log_rate, model.lost, model.gained):
        assert parameter.grad is not None
        step, sums = 0.02, []
        start = parameter.detach().clone()
        with torch.no_grad():  # by the compiled code
            for sign in (1, -1):
                parameter.copy_(start + sign * step)
                sums.append(float(probability(model, batch).mul(toward).sum()))
            parameter.copy_(start)
        assert float(parameter.grad.sum()) == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=0.02, abs=1e-3)


def test_single_head_with_flat_prior_equals_li_stephens() -> None:
    """All mixture weight on the second head, a flat prior, no allele lost or gained."""
    model, batch = untrained(), with_missing(batch_of(PANEL, b=2, k=6))
    with torch.no_grad():
        model.share.zero_()[:, 1] = 60.0
        model.lost.fill_(-60.0)
        model.gained.fill_(-60.0)
        model.log_strength.fill_(-60.0)
    sites, alleles = batch.sites, retrieved_alleles(batch).view(4, 6, -1)
    problem = CopyingProblem(
        observed=observed(batch.key_sign).view(4, -1).T,
        states=batch.key_rows[batch.key_retrieved].view(4, 6, -1).permute(2, 0, 1),
        cm=sites.key_offset_cm,
        maf=sites.key_af.minimum(1 - sites.key_af),
        prior=torch.full((4, 6), 1 / 6),
    )
    with torch.no_grad():
        second = LiStephens(*(first * multiple for first, multiple in zip(INITIAL_RATES, HEADS[1], strict=True)))
        posterior = torch.cat([part for _, part in second.posteriors(problem)])  # [t, 4, 6]
    expected = torch.empty(4, 32)
    for site in range(32):
        # The window begins at site 4, every third site of the panel is typed, and a site is 0.01 cM.
        right = min(-(-(site + 4) // 3), len(posterior) - 1)
        left = right - 1
        fraction = torch.tensor([1.0 - (3 * right - (site + 4)) / 3])
        for target in range(4):
            carried = alleles[target][:, [site]]
            dosage = interpolated_dosage(posterior[left, [target]], posterior[right, [target]], carried, fraction)
            expected[target, site] = dosage
    torch.testing.assert_close(probability(model, batch).view(4, -1).detach(), expected, atol=1e-4, rtol=0)


def test_mixture_of_single_heads_equals_forward() -> None:
    model, batch = model_of(), with_missing(batch_of(PANEL))
    with torch.no_grad():
        compiled = torch.stack(list(model.by_head(batch)))
        weights = model.mixture_weights(batch.sites.af, sampled=False)
        mixed = model.inherited((compiled * weights[:, None]).sum(dim=0), batch.sites.af)
        expected = probability(model, batch)
    assert weights.shape == (len(HEADS), 32)
    torch.testing.assert_close(mixed, expected.flatten(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.stack(list(model.by_head(batch))).detach(), compiled, atol=1e-4, rtol=0)


def test_mixture_weights_are_interpolated_between_knots() -> None:
    model = untrained()
    weights = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0.5, 0.5], [0.4, 0.3, 0.3]])
    model.set_mixture(weights)
    halfway = 10 ** ((KNOTS[0] + KNOTS[1]) / 2)
    found = model.mixture_weights(torch.tensor([halfway, 1 - 10 ** KNOTS[3], 1e-9]), sampled=False).T
    expected = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [1.0, 0, 0]])
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
    sampled = model.mixture_weights(torch.tensor([halfway]), sampled=True)
    torch.testing.assert_close(sampled[:, 0], torch.tensor(INITIAL_MIXTURE), atol=1e-4, rtol=0)


def test_sampled_phasings_use_their_own_heads() -> None:
    model, batch = untrained(), batch_of(PANEL, b=2, k=6)
    with torch.no_grad():
        phased = probability(model, batch)
        sampled = dataclasses.replace(batch, sites=dataclasses.replace(batch.sites, sampled=True))
        torch.testing.assert_close(probability(model, sampled), phased)  # while the rates are equal
        model.set_heads(50.0, 1e-2, sampled=True)
        assert (probability(model, sampled) - phased).abs().max() > 0.05
        torch.testing.assert_close(probability(model, batch), phased)
        model.set_heads(50.0, 1e-2)
        torch.testing.assert_close(probability(model, batch), probability(model, sampled))


def test_prior_by_hand() -> None:
    """softmax(-strength x mean over typed sites of the weight of mismatches); missing calls are excluded."""
    model, batch = model_of(), with_missing(batch_of(PANEL, b=2, k=5))
    with torch.no_grad():
        weights = model.embedding.allele_weights(batch.sites.key_features)
        typed = (batch.key_sign != 0).sum(dim=-1)[..., None]
        cost = (mismatches(batch) * weights).sum(dim=-1) / typed  # [2, 2, 5]
        expected = torch.softmax(-model.log_strength.exp() * cost, dim=-1)
        torch.testing.assert_close(model.prior(batch), expected.view(4, 5), atol=1e-5, rtol=1e-4)


def test_no_typed_call_gives_flat_prior_and_mean_dosage() -> None:
    model, batch = untrained(), batch_of(PANEL, b=1, k=5)
    batch = dataclasses.replace(batch, key_sign=torch.zeros_like(batch.key_sign))
    torch.testing.assert_close(model.prior(batch), torch.full((2, 5), 0.2))
    mean = retrieved_alleles(batch).float().mean(dim=2)
    with torch.no_grad():
        torch.testing.assert_close(probability(model, batch), mean, atol=3e-4, rtol=0)


def test_inheritance_by_hand() -> None:
    """p (1 - lost) + (1 - p) gained, at the MAF of a knot."""
    model = untrained()
    with torch.no_grad():
        model.lost[2], model.gained[2] = math.log(0.2), math.log(0.05)
        model.share[2] = torch.tensor([1.0, 2.0, 3.0]).log()
        af = torch.tensor([1 - 10 ** KNOTS[2]])
        weights = model.mixture_weights(af, sampled=False)
        found = model.inherited((torch.tensor([[1.0], [0.5], [0.0]]) * weights).sum(dim=0, keepdim=True), af)
    p = (1 + 2 * 0.5) / 6
    assert float(found) == pytest.approx(p * 0.8 + (1 - p) * 0.05, rel=1e-4)


def test_pairs_select_haplotypes_of_each_sample() -> None:
    model, batch = model_of(), batch_of(PANEL, b=2)
    pairs = torch.tensor([[0, 0], [3, 1], [2, 3]])
    with torch.no_grad():
        one = probability(model, batch).flatten(0, 1)
        output = model(dataclasses.replace(batch, pairs=pairs))
    torch.testing.assert_close(output.logit.sigmoid(), one[pairs], atol=1e-6, rtol=0)
    p = one[pairs]
    torch.testing.assert_close(output.genotype[..., 2], p[:, 0] * p[:, 1], atol=1e-5, rtol=1e-4)


def test_exchanged_untyped_alleles_exchange_dosages() -> None:
    """REF and ALT exchanged at untyped sites, with no allele lost or gained."""
    model, batch = model_of(), batch_of(PANEL)
    with torch.no_grad():
        model.lost.fill_(-60.0)
        model.gained.fill_(-60.0)
        changed = probability(model, with_untyped_alleles_changed(batch))
        torch.testing.assert_close(changed, 1 - probability(model, batch), atol=1e-5, rtol=0)


def test_knot_weights_interpolate_in_log_maf() -> None:
    maf = torch.logspace(-6, math.log10(0.5), 200)
    weights = knot_weights(maf)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200))
    assert (weights >= 0).all()
    assert ((weights > 0).sum(dim=1) <= 2).all()
    torch.testing.assert_close(
        weights @ torch.tensor(KNOTS), maf.log10().clamp(KNOTS[0], KNOTS[-1]), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(knot_weights(10 ** torch.tensor(KNOTS)), torch.eye(len(KNOTS)), atol=1e-5, rtol=0)
    assert knot_weights(torch.tensor([0.0, 0.5])).tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


def sites_of(cm: list[float], key_cm: list[float], key_place: list[int]) -> SiteContext:
    t, l = len(key_cm), len(cm)
    return SiteContext(
        features=torch.zeros(l, 1),
        offset_cm=torch.tensor(cm),
        af=torch.full((l,), 0.5),
        key_features=torch.zeros(t, 1),
        key_distance_cm=torch.zeros(t),
        key_offset_cm=torch.tensor(key_cm),
        key_af=torch.full((t,), 0.5),
        key_place=torch.tensor(key_place),
    )


def test_intervals_by_hand() -> None:
    """Sites 0 to 5. Typed are one site before the window and sites 1 and 4."""
    interval, fraction = intervals_of(sites_of([0.0, 0.2, 0.3, 0.3, 0.7, 0.9], [-0.3, 0.2, 0.7], [-2, 1, 4]))
    assert interval.tolist() == [1, 1, 2, 2, 2, 3]
    torch.testing.assert_close(fraction, torch.tensor([0.6, 1.0, 0.2, 0.2, 1.0, 0.0]))


def test_intervals_with_typed_sites_at_one_position() -> None:
    interval, fraction = intervals_of(sites_of([0.0, 0.1, 0.1, 0.1], [0.1, 0.1], [1, 3]))
    assert interval.tolist() == [0, 0, 1, 1]
    assert fraction[:2].tolist() == [1.0, 1.0]
    assert ((fraction >= 0) & (fraction <= 1)).all()


def test_observed_by_hand() -> None:
    found = observed(torch.tensor([1, -1, 0], dtype=torch.int8))
    assert (found.tolist(), found.dtype) == ([0, 1, -1], torch.int8)


def test_sample_does_not_depend_on_batch() -> None:
    model = model_of()
    context = context_of(PANEL)
    rows = torch.from_numpy(np.random.default_rng(0).integers(PANEL.n_haplotypes, size=(6, 5)))
    with torch.no_grad():
        whole = probability(model, context.batch(context.key_alleles[:6], rows))
        kept, renumbered = context.keeping(rows[2:4])
        alone = probability(model, kept.batch(context.key_alleles[2:4], renumbered))
    torch.testing.assert_close(alone[0], whole[1], atol=1e-5, rtol=0)
