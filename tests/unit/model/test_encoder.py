from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.batches import batch_of
from tests.helpers.tiny import perturbed, random_panel
from vcfbert.kernels import are_compiled
from vcfbert.model import encoder
from vcfbert.model.base import Features, Network
from vcfbert.model.encoder import Block, Encoder
from vcfbert.model.encoder_kernel import encode


def test_block_by_hand() -> None:
    """Compared with attention written out: softmax(q k / sqrt(d)) v by head, then the MLP, each added to the input."""
    torch.manual_seed(0)
    block = Block(dims=6, heads=2, mlp_ratio=2, dropout=0.0)
    x = torch.randn(3, 5, 6)
    q, k, v = block.query_key_value(block.attention_norm(x)).split(6, dim=-1)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = q[..., part] @ k[..., part].transpose(1, 2) / 3**0.5
        heads.append(scores.softmax(dim=-1) @ v[..., part])
    y = x + block.attention_out(torch.cat(heads, dim=-1))
    gelu = torch.nn.functional.gelu(block.mlp_in(block.mlp_norm(y)), approximate="tanh")
    torch.testing.assert_close(block(x), y + block.mlp_out(gelu))


def test_rows_do_not_affect_each_other() -> None:
    torch.manual_seed(0)
    encoder = Encoder(8, 2, 2, 2, 0.0)
    encoder.init_weights()
    x = torch.randn(4, 7, 8)
    torch.testing.assert_close(encoder(x)[1:3], encoder(x[1:3]))


def test_dropout_applies_in_training_mode_only() -> None:
    torch.manual_seed(0)
    encoder = Encoder(8, 1, 2, 2, 0.5)
    x = torch.randn(2, 7, 8)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.skipif(not are_compiled(), reason="the kernels were not compiled")
@pytest.mark.parametrize("l", [1, 16, 53])
def test_encoder_without_gradient_equals_torch(l: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Encoder(12, 3, 2, 4, 0.0).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(5, l, 12)
    calls: list[int] = []
    monkeypatch.setattr(encoder, "encode", lambda x, *rest, **names: calls.append(len(x)) or encode(x, *rest, **names))
    with torch.no_grad():
        compiled = model(x)
    assert calls == [5]
    torch.testing.assert_close(compiled, model(x).detach(), rtol=1e-4, atol=1e-5)
    assert calls == [5]


@pytest.mark.parametrize("threads", [1, 3])
def test_encoded_sequence_does_not_depend_on_others_or_threads(threads: int) -> None:
    torch.manual_seed(0)
    weights = Encoder(8, 2, 2, 2, 0.0).weights()
    x = torch.randn(7, 20, 8).numpy()
    alone = np.concatenate([encode(one, weights, 2, threads=1) for one in np.split(x, 7)])
    np.testing.assert_array_equal(encode(x, weights, 2, threads=threads), alone)


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_output_of_pairs_equals_output_of_each(variant: str) -> None:
    model = perturbed(variant).eval()
    assert isinstance(model, Network)
    sites = batch_of(random_panel(12, 80, seed=2)).sites
    l = len(sites.af)
    features = Features(torch.randn(4, 2, l, model.config.dims), 3.0 * torch.randn(4, 2, l))
    pairs = torch.tensor([[0, 1], [7, 2], [3, 3]])
    expected = model.output(features.of_pairs(pairs), sites)
    with torch.no_grad():
        compiled = model.output_of_pairs(features, pairs, sites, batch_size=2)
    torch.testing.assert_close(compiled.probability, expected.probability.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(compiled.genotype, expected.genotype.detach(), rtol=1e-4, atol=1e-6)
