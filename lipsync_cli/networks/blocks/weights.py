"""Giving a network its weights: every one of them, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lipsync_cli.core.errors import WeightsError


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], source: Path | str, hint: str = "lipsync models list"
) -> None:
    """Copy the weights into the module; one on the meta device takes the tensors themselves.

    source: what the message names, a file or the like.  hint: the line of what to do.
    Raises: WeightsError naming what is missing, unknown or of another shape; the module is then unchanged.
    """
    wanted = module.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    misshaped = sorted(
        name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape
    )
    if missing:
        raise WeightsError(f"{source}: the weights lack '{missing[0]}' ({len(missing)} missing).", hint)
    if unknown:
        raise WeightsError(
            f"{source}: the weights hold '{unknown[0]}', which the network has not ({len(unknown)} unknown).",
            hint,
        )
    if misshaped:
        name = misshaped[0]
        shapes = f"{list(state[name].shape)} where {list(wanted[name].shape)} is wanted"
        raise WeightsError(f"{source}: '{name}' is {shapes} ({len(misshaped)} misshaped).", hint)
    module.load_state_dict(state, assign=any(tensor.is_meta for tensor in wanted.values()))
