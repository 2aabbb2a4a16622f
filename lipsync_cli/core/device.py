"""Choosing where networks run. `auto` takes the best there is; an explicit device never falls back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lipsync_cli.core.errors import ResourceError, UsageError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str = "auto") -> torch.device:
    """Turn `auto|cpu|cuda[:n]|mps` into a device.

    Raises: UsageError for another name, ResourceError when the named device is absent.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UsageError(f"unknown device '{name}'.", "use --device auto, cpu, cuda, cuda:0 or mps")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        raise ResourceError(
            f"device '{name}' is not present on this machine.", "use --device auto, or see: lipsync doctor"
        )
    return torch.device(name)


def share_processor() -> None:
    """Leave half of the processor's cores to decoding and faces, which run beside the network."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 2) // 2)))
