from __future__ import annotations

import torch

from vcfbert.model.encoder import Block, Encoder


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
