"""Scaled dot-product attention, at full precision where the processor has no fast half-precision kernel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v.  (n, heads, L, d) each; returns q's shape and type.

    On a CPU the bfloat16 kernel's backward pass is six times slower than float32's, so there it runs in float32.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)
