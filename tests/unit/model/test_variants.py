"""V17 and V18 against brute force, and untrained against a vote of the retrieved haplotypes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.helpers.batches import batch_of, context_of, mismatches, retrieved_alleles, with_untyped_alleles_changed
from tests.helpers.tiny import TINY_MODEL, perturbed, random_panel
from vcfbert.constants import ALT_TOKEN, MASK_TOKEN, REF_TOKEN
from vcfbert.model.base import WindowBatch
from vcfbert.model.losses import allele_loss
from vcfbert.model.v17 import V17
from vcfbert.model.v18 import V18
from vcfbert.model.variants import create

PANEL = random_panel(12, 40, seed=1)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return out


def largest_tensor(model: torch.nn.Module, batch: WindowBatch) -> int:
    with LargestTensor() as mode:
        model(batch).logit.sum().backward()
    return mode.numel


def vote(batch: WindowBatch) -> torch.Tensor:
    """ALT probability [b, 2, l] of an untrained model: 0.98 times the mean of the retrieved alleles plus 0.02 AF."""
    return 0.98 * retrieved_alleles(batch).float().mean(dim=2) + 0.02 * batch.sites.af.clamp(1e-4, 1 - 1e-4)


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_outputs_have_shapes_and_genotypes_sum_to_one(variant: str) -> None:
    batch = batch_of(PANEL, b=3, k=5)
    output = perturbed(variant)(batch)
    assert (output.logit.shape, output.genotype.shape) == ((3, 2, 32), (3, 32, 3))
    assert (output.genotype >= 0).all()
    torch.testing.assert_close(output.genotype.sum(dim=-1), torch.ones(3, 32))
    dosage = output.genotype[..., 1] + 2 * output.genotype[..., 2]
    torch.testing.assert_close(dosage, output.logit.sigmoid().sum(dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_untrained_network_without_retrieval_predicts_af(variant: str) -> None:
    batch = batch_of(PANEL, b=3, k=0)
    frequency = batch.sites.af.clamp(1e-4, 1 - 1e-4).expand(3, 2, -1)
    torch.testing.assert_close(create(variant, TINY_MODEL)(batch).probability, frequency, atol=1e-4, rtol=1e-4)
    model = perturbed(variant)
    model(batch).logit.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_untrained_v17_predicts_vote_of_retrieved() -> None:
    batch = batch_of(PANEL)
    torch.testing.assert_close(create("v17", TINY_MODEL)(batch).logit.sigmoid(), vote(batch), atol=1e-5, rtol=1e-4)


def test_untrained_v18_with_equal_weights_predicts_vote() -> None:
    batch = batch_of(PANEL)
    model = create("v18", TINY_MODEL)
    assert isinstance(model, V18)
    with torch.no_grad():
        model.retrieval.log_temperature.fill_(30.0)  # temperature e^30: all retrieved have the same weight
    torch.testing.assert_close(model(batch).logit.sigmoid(), vote(batch), atol=1e-5, rtol=1e-4)


def test_untrained_v18_decays_mismatches_with_distance() -> None:
    """Each mismatch costs exp(-decay d); the votes of the four heads are averaged."""
    batch = batch_of(PANEL, b=1, k=3)
    model = create("v18", TINY_MODEL)
    expected = torch.zeros(2, 32)
    alleles = retrieved_alleles(batch)[0].float()
    for decay in (0.5, 4.0, 12.0, 30.0):
        cost = (mismatches(batch)[0] * torch.exp(-decay * batch.sites.key_distance_cm)).sum(dim=-1)  # [2, k]
        expected += torch.einsum("hk,hkl->hl", torch.softmax(-cost, dim=-1), alleles) / 4
    probability = 0.98 * expected + 0.02 * batch.sites.af.clamp(1e-4, 1 - 1e-4)
    torch.testing.assert_close(model(batch).logit[0].sigmoid(), probability, atol=1e-5, rtol=1e-4)


def test_pooled_embedding_is_linear_in_alt_fraction() -> None:
    """sum_k a_k E(l, allele_k) over embedded haplotypes equals E(REF) + p (E(ALT) - E(REF))."""
    model, batch = perturbed("v18"), batch_of(PANEL, b=2, k=6)
    assert isinstance(model, V18)
    weights = model.copying_weights(batch)  # [b, 2, heads, k]
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 4))
    alleles = retrieved_alleles(batch)  # [b, 2, k, l]
    features = batch.sites.features
    embedded = model.embedding(alleles.long() + REF_TOKEN, features)  # [b, 2, k, l, dims]
    brute = torch.einsum("bhrk,bhkld->bhrld", weights, embedded)
    fraction = V18.alt_fraction(weights, batch)
    torch.testing.assert_close(fraction, torch.einsum("bhrk,bhkl->bhrl", weights, alleles.float()))
    ref = model.embedding(torch.full((len(features),), REF_TOKEN), features)
    torch.testing.assert_close(ref + fraction[..., None] * model.embedding.allele_delta(features), brute)


def test_v18_largest_tensor_does_not_grow_with_k() -> None:
    """In the forward and backward pass, at k = 8 and 64. V17's largest tensor grows."""
    context = context_of(PANEL)
    few, many = (
        context.batch(context.key_alleles[:6], torch.arange(6 * k).view(6, k) % PANEL.n_haplotypes) for k in (8, 64)
    )
    model = perturbed("v18")
    assert largest_tensor(model, many) == largest_tensor(model, few) < 3 * 2 * 8 * 32 * TINY_MODEL.dims
    assert largest_tensor(perturbed("v17"), many) == 3 * 2 * 64 * 32 * TINY_MODEL.dims


def test_copying_weights_pass_gradient_to_metric() -> None:
    """Untrained, the head is zero and the logit is retrieval's alone: no other way leads to the scale's MLP."""
    model, batch = create("v18", TINY_MODEL), batch_of(PANEL)
    assert isinstance(model, V18)
    truth = torch.randint(0, 2, (3, 2, 32), generator=torch.Generator().manual_seed(2))
    allele_loss(model(batch).logit, truth, torch.ones(32), gamma=0.0).backward()
    last = model.embedding.scale[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 1e-6
    assert model.embedding.shift.weight.grad is None or not model.embedding.shift.weight.grad.any()
    assert model.retrieval.log_decay.grad is not None
    assert model.retrieval.log_decay.grad.abs().max() > 0
    # With every typed allele unknown, all are as near, and the metric gets none.
    model.zero_grad()
    same = dataclasses.replace(batch, key_sign=torch.zeros_like(batch.key_sign))
    allele_loss(model(same).logit, truth, torch.ones(32), gamma=0.0).backward()
    assert not last.weight.grad.any()


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_output_depends_on_retrieved_alleles(variant: str) -> None:
    model, batch = perturbed(variant), batch_of(PANEL)
    changed = model(with_untyped_alleles_changed(batch)).logit
    assert (changed - model(batch).logit).abs().max() > 0.1


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_sample_does_not_depend_on_batch(variant: str) -> None:
    model = perturbed(variant)
    context = context_of(PANEL)
    rows = torch.randint(PANEL.n_haplotypes, (6, 5), generator=torch.Generator().manual_seed(0))
    whole = model(context.batch(context.key_alleles[:6], rows))
    kept, renumbered = context.keeping(rows[2:4])
    alone = model(kept.batch(context.key_alleles[2:4], renumbered))
    # Compared as probabilities: near 0 and 1, rounding p changes its logit much.
    torch.testing.assert_close(alone.logit[0].sigmoid(), whole.logit[1].sigmoid(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(alone.genotype[0], whole.genotype[1], atol=1e-5, rtol=1e-4)


def test_v17_encoding_distinct_rows_gives_same_result() -> None:
    model, batch = perturbed("v17"), batch_of(PANEL)
    assert isinstance(model, V17)
    encoded = model.encode_patterns(batch.patterns, batch.sites)
    torch.testing.assert_close(model(batch, encoded).logit, model(batch).logit)
    one_by_one = model.encode(retrieved_alleles(batch)[1, 0].long() + REF_TOKEN, batch.sites)
    torch.testing.assert_close(encoded[batch.retrieved[1, 0]], one_by_one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_untyped_alleles_do_not_affect_output(variant: str) -> None:
    batch = batch_of(PANEL)  # the window starts at site 4, every third site is typed: 6, 9, ...
    typed = torch.arange(32) % 3 == 2
    assert (batch.tokens[..., ~typed] == MASK_TOKEN).all()
    expected = torch.from_numpy(PANEL.alleles(slice(4, 36))[:6]).long() + REF_TOKEN
    assert torch.equal(batch.tokens.view(6, 32)[:, typed], expected[:, typed])
    assert set(batch.tokens[..., typed].unique().tolist()) == {REF_TOKEN, ALT_TOKEN}
    masked = dataclasses.replace(batch, tokens=torch.full_like(batch.tokens, MASK_TOKEN))
    model = perturbed(variant)
    assert (model(masked).logit - model(batch).logit).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_every_parameter_gets_a_gradient(variant: str) -> None:
    """DDP would wait for a missing one."""
    model = perturbed(variant)
    output = model(batch_of(PANEL))
    (output.logit.square().mean() + output.genotype.square().mean()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
