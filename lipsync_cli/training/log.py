"""The run log: one JSON line per event, and the same numbers for TensorBoard where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lipsync_cli.core.output import atomic_path


class RunLog:
    """Appends to `log.jsonl` of a run and, with the `tensorboard` extra, to `tensorboard/`."""

    def __init__(self, run: Path, first_step: int) -> None:
        """first_step: lines of later steps, left by a run that was killed after its last checkpoint, are dropped."""
        self._path = run / "log.jsonl"
        if self._path.exists():
            self._truncate(first_step)
        self._board = _tensorboard(run / "tensorboard", first_step)

    def _truncate(self, first_step: int) -> None:
        kept = [line for line in read_log(self._path) if line["step"] <= first_step]
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, event: str, step: int, values: dict[str, float]) -> None:
        """event: "train" or "validate".  step: steps done."""
        with self._path.open("a") as file:
            file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        if self._board:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line cut short by a kill is left out."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)
