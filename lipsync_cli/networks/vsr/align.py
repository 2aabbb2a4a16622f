"""When each unit and word is said: the best CTC path that reads the given units (forced alignment).

Own Viterbi search rather than torchaudio's, which cannot be imported beside CPU builds of torch.
Shapes: T frames, V units, U units to align.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lipsync_cli.core.errors import InconclusiveError
from lipsync_cli.networks.vsr.model import BLANK
from lipsync_cli.networks.vsr.units import BOUNDARY, Units


@dataclass(frozen=True)
class Span:
    """A stretch of frames: start_frame up to, not including, end_frame."""

    start_frame: int
    end_frame: int


def forced_align(log_probs: torch.Tensor, units: Sequence[int]) -> tuple[list[Span], float]:
    """The frames in which each unit is emitted along the most likely path, and the path's log probability.

    log_probs: (T, V), real frames only; units without blank or end. Blanks lie between the spans.
    Raises: InconclusiveError when there are too few frames for the units.
    """
    if not units:
        return [], float(log_probs[:, BLANK].sum())
    path, score = _best_path(log_probs.detach().double().cpu(), list(units))
    spans = []
    for index in range(len(units)):
        frames = [t for t, state in enumerate(path) if state == 2 * index + 1]
        spans.append(Span(frames[0], frames[-1] + 1))
    return spans, score


def word_spans(units: Units, written: Sequence[int], spans: Sequence[Span]) -> list[Span]:
    """Spans of words from spans of their units, in the order of `units.split_words`.

    A boundary unit is the pause before its word, not part of it.
    """
    words = []
    for positions in units.split_words(written):
        said = [i for i in positions if units.names[written[i]] != BOUNDARY]
        words.append(Span(spans[said[0]].start_frame, spans[said[-1]].end_frame))
    return words


def _best_path(log_probs: torch.Tensor, units: list[int]) -> tuple[list[int], float]:
    """Viterbi over blank, unit, blank, …, unit, blank: each frame's state, and the path's log probability."""
    states = torch.full((2 * len(units) + 1,), BLANK)
    states[1::2] = torch.tensor(units)
    may_skip = torch.zeros(len(states), dtype=torch.bool)  # the blank between two different units
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    emitted = log_probs[:, states]
    best = torch.full((len(states),), -torch.inf, dtype=log_probs.dtype)
    best[:2] = emitted[0, :2]
    moves = []  # how many states each frame's best predecessor lies back
    for frame in emitted[1:]:
        step = torch.nn.functional.pad(best, (1, 0), value=-torch.inf)[:-1]
        skip = torch.nn.functional.pad(best, (2, 0), value=-torch.inf)[:-2]
        skip = skip.masked_fill(~may_skip, -torch.inf)
        best, move = torch.stack([best, step, skip]).max(dim=0)
        best = best + frame
        moves.append(move)
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    score = float(best[state])
    if score == -torch.inf:
        raise InconclusiveError(f"{len(emitted)} frames are too few to time {len(units)} units.")
    path = [state]
    for move in reversed(moves):
        state -= int(move[state])
        path.append(state)
    return path[::-1], score
