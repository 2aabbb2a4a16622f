"""Checkpoints that appear whole or not at all, and from which a run goes on as if it had never stopped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from accelerate import Accelerator

PREFIX = "step_"


def save_checkpoint(accelerator: Accelerator, run: Path, step: int, keep: int) -> Path:
    """Write `checkpoints/step_NNNNNNN` (weights, optimiser, random states) under a temporary name, then rename it.

    keep: newest checkpoints kept; older ones are removed.  Every process calls this; the first one names and cleans.
    """
    folder = run / "checkpoints" / f"{PREFIX}{step:07d}"
    temporary = folder.with_name(f".{folder.name}.part")
    if accelerator.is_main_process and temporary.exists():
        shutil.rmtree(temporary)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        for old in list_checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return folder


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob(f"{PREFIX}*"))


def load_latest(accelerator: Accelerator, run: Path) -> int:
    """Load the newest checkpoint into what was prepared; returns the number of steps done, 0 when there is none."""
    found = list_checkpoints(run)
    if not found:
        return 0
    accelerator.load_state(str(found[-1]))
    return int(found[-1].name.removeprefix(PREFIX))
