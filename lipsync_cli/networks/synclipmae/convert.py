"""Published weights → ours: the Sapiens image encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.networks.synclipmae.encoder import VisualEncoder

# Sapiens (mmpretrain's VisionTransformer) name → ours, inside one layer.
LAYER_NAMES = {
    "ln1": "norm1",
    "attn.qkv": "qkv",
    "attn.proj": "proj",
    "ln2": "norm2",
    "ffn.layers.0.0": "mlp.0",
    "ffn.layers.1": "mlp.2",
}
OWN = ("prompts",)  # ours alone: learnt from scratch


def convert_sapiens(published: Mapping[str, Any], grid: int) -> dict[str, Tensor]:
    """Sapiens' encoder weights under our names; positions are interpolated to a grid × grid picture.

    published: the checkpoint, with or without its "state_dict" wrapper and "backbone." prefix; the pretraining decoder
    ("neck", "head") and the class token are left out, as our prompts take the token's place.
    Raises: WeightsError naming the first key that is not Sapiens'.
    """
    tensors = published.get("state_dict", published)
    tensors = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(("neck.", "head.", "decode_head.")) or name in ("cls_token", "mask_token"):
            continue
        if name == "pos_embed":
            out["position"] = resize_positions(tensor, grid)
        else:
            out[_our_name(name)] = tensor
    return out


def _our_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module == "patch_embed.projection":
        return f"stem.layers.0.{kind}"
    if module == "ln1":
        return f"norm.{kind}"
    parts = module.split(".", 2)
    if len(parts) == 3 and parts[0] == "layers" and parts[2] in LAYER_NAMES:
        return f"blocks.{parts[1]}.{LAYER_NAMES[parts[2]]}.{kind}"
    raise WeightsError(f"the Sapiens checkpoint has an unknown weight '{name}'.", "lipsync models list")


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """(1, [1 +] n², D) learnt positions → (grid², D), bicubic over the picture; a class token's position is dropped."""
    table = positions[0]
    side = math.isqrt(len(table))
    if side * side != len(table):
        table, side = table[1:], math.isqrt(len(table) - 1)
    square = table.T.reshape(1, -1, side, side).float()
    resized = (
        F.interpolate(square, (grid, grid), mode="bicubic", align_corners=False) if side != grid else square
    )
    return resized[0].flatten(1).T.contiguous()


def load_sapiens(encoder: VisualEncoder, published: Mapping[str, Any]) -> None:
    """Fill the encoder, strictly but for our prompts.  Raises: WeightsError naming what does not fit."""
    weights = convert_sapiens(published, encoder.config.grid)
    own = encoder.state_dict()
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            wanted = tuple(own[name].shape) if name in own else "nothing"
            raise WeightsError(
                f"Sapiens weight '{name}' is {tuple(tensor.shape)} where {wanted} is wanted.",
                "use the sizes of recipes/pretrain/synclipmae_base.yaml",
            )
    missing = [name for name in own if name not in weights and name not in OWN]
    if missing:
        raise WeightsError(
            f"the Sapiens checkpoint lacks '{missing[0]}'.", "lipsync models verify sapiens-0.3b"
        )
    encoder.load_state_dict(weights, strict=False)
