"""Published lip reading weights → ours, strictly.

Our names are those of the current Auto-AVSR code. The older layout (Auto-AVSR's first release, VSR for
Multiple Languages) keeps the front end and the projection inside the encoder. Both are the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lipsync_cli.core.errors import WeightsError

OLDER_PREFIXES = {"encoder.frontend.": "frontend.", "encoder.embed.0.": "proj_encoder."}


def from_published(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Names of either published layout → ours; names that belong to neither are left for loading to refuse.

    state: tensors by name, bare or as a training checkpoint wraps them, {"state_dict": {"model.…": …}}.
    Raises: WeightsError when two published names become one.
    """
    state = state.get("state_dict", state)
    if all(name.startswith("model.") for name in state):
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        ours = _renamed(name, OLDER_PREFIXES)
        if ours in renamed:
            raise WeightsError(f'The weights hold "{ours}" in two layouts at once.')
        renamed[ours] = tensor
    return renamed


def to_older_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our names → the older published layout."""
    return {_renamed(name, {b: a for a, b in OLDER_PREFIXES.items()}): t for name, t in state.items()}


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name
