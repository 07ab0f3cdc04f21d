"""``nn.MultiheadAttention`` as four dense layers and the attention between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """``F.multi_head_attention_forward`` on (L, N, E)."""
    others = (bias_k, bias_v, static_k, static_v)
    if query.ndim != 3 or any(t is not None for t in others) or add_zero_attn or (training and dropout_p > 0):
        return NotImplemented
    L, n, E = query.shape
    S, head = len(key), E // num_heads
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))  # type: ignore[arg-type]
    elif in_proj_weight is None:
        return NotImplemented
    elif query is key and key is value:
        q, k, v = F.linear(query, in_proj_weight, in_proj_bias).chunk(3, dim=-1)
    else:
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        parts = zip((query, key, value), in_proj_weight.chunk(3), biases, strict=True)
        q, k, v = (F.linear(x, w, b) for x, w, b in parts)
    q, k, v = (x.reshape(len(x), n, num_heads, head).permute(1, 2, 0, 3) for x in (q, k, v))
    scores = q @ k.transpose(-2, -1) / math.sqrt(head)
    if attn_mask is not None:
        attn_mask = attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(n, num_heads, L, S)
        scores = _masked(scores, attn_mask)
    if key_padding_mask is not None:
        scores = _masked(scores, key_padding_mask.reshape(n, 1, 1, S))
    attention = scores.softmax(-1)
    out = F.linear((attention @ v).permute(2, 0, 1, 3).reshape(L, n, E), out_proj_weight, out_proj_bias)
    if not need_weights:
        return out, None
    return out, attention.mean(1) if average_attn_weights else attention


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask


CALLS: dict[Callable[..., Any], Callable[..., Any]] = {F.multi_head_attention_forward: _attention}
