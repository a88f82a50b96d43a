"""A pre-norm transformer encoder over the sites of a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcfbert.kernels import Floats
from vcfbert.model.compiled import runs_compiled
from vcfbert.model.encoder_kernel import EncoderWeights, encode


class Block(nn.Module):
    """Self-attention and MLP, each behind a LayerNorm and added to the residual stream."""

    def __init__(self, dims: int, heads: int, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dims)
        self.query_key_value = nn.Linear(dims, 3 * dims)
        self.attention_out = nn.Linear(dims, dims)
        self.mlp_norm = nn.LayerNorm(dims)
        self.mlp_in = nn.Linear(dims, mlp_ratio * dims)
        self.mlp_out = nn.Linear(mlp_ratio * dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """[n, l, dims] -> [n, l, dims]."""
        n, l, dims = x.shape
        qkv = self.query_key_value(self.attention_norm(x)).view(n, l, 3, self.heads, dims // self.heads)
        # Each [n, heads, l, dims / heads]. Unbinding before transposing saves a copy in the backward pass.
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(dim=2))
        p = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=p).transpose(1, 2).reshape(n, l, dims)
        x = x + F.dropout(self.attention_out(attended), p, self.training)
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh")
        return x + F.dropout(self.mlp_out(hidden), p, self.training)


class Encoder(nn.Module):
    """A stack of blocks and a final LayerNorm."""

    def __init__(self, dims: int, layers: int, heads: int, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(Block(dims, heads, mlp_ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dims)

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            # GPT-2's scaling of residual projections: each block starts close to the identity.
            assert isinstance(block, Block)
            for last in (block.attention_out, block.mlp_out):
                last.weight.data.mul_((2 * len(self.blocks)) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[n, l, dims] -> [n, l, dims], normalised."""
        if runs_compiled(self, x):
            rows = np.ascontiguousarray(x.numpy())
            return torch.from_numpy(encode(rows, self.weights(), self.heads, threads=torch.get_num_threads()))
        for block in self.blocks:
            x = block(x)
        normalised: Tensor = self.norm(x)
        return normalised

    def weights(self) -> EncoderWeights:
        """Copies of all weights, float32 on the CPU."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]

        def norm(of: nn.LayerNorm) -> Tensor:
            return torch.stack([of.weight, of.bias])

        return EncoderWeights(
            attention_norm=_stacked([norm(block.attention_norm) for block in blocks]),
            projection=_stacked([block.query_key_value.weight for block in blocks]),
            projection_bias=_stacked([block.query_key_value.bias for block in blocks]),
            out=_stacked([block.attention_out.weight for block in blocks]),
            out_bias=_stacked([block.attention_out.bias for block in blocks]),
            mlp_norm=_stacked([norm(block.mlp_norm) for block in blocks]),
            mlp_in=_stacked([block.mlp_in.weight for block in blocks]),
            mlp_in_bias=_stacked([block.mlp_in.bias for block in blocks]),
            mlp_out=_stacked([block.mlp_out.weight for block in blocks]),
            mlp_out_bias=_stacked([block.mlp_out.bias for block in blocks]),
            norm=_stacked(list(norm(self.norm))),
        )


def _stacked(tensors: Sequence[Tensor]) -> Floats:
    """float32 [n, ...]: n tensors of one shape."""
    return np.ascontiguousarray(torch.stack([one.detach() for one in tensors]).numpy())
