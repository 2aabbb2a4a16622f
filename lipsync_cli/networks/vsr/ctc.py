"""CTC decoding: the greedy reading, and the probability that a reading begins with given units.

Shapes: B clips, T frames, V units, N hypotheses, C candidate units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lipsync_cli.networks.vsr.model import BLANK


def greedy(log_probs: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    """The likeliest unit of every frame, repeats merged, blanks dropped. log_probs: (B, T, V); lengths:
    (B,)."""
    best = log_probs.argmax(dim=-1).cpu()
    readings = []
    for row, length in zip(best, lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(row[:length])
        readings.append(merged[merged != BLANK].tolist())
    return readings


@dataclass(frozen=True)
class PrefixState:
    """Forward probabilities of N prefixes: ending in their last unit, and ending in blank, after 0…T frames.

    by_unit, by_blank: (T + 1, N) log probabilities; last: (N,) the prefixes' last unit, BLANK for the empty
    one; score: (N,) log probability that the reading begins with the prefix.
    """

    by_unit: torch.Tensor
    by_blank: torch.Tensor
    last: torch.Tensor
    score: torch.Tensor

    def select(self, rows: torch.Tensor) -> PrefixState:
        return PrefixState(self.by_unit[:, rows], self.by_blank[:, rows], self.last[rows], self.score[rows])


class PrefixScorer:
    """Log probabilities of prefixes under CTC (Watanabe et al. 2017, algorithm 2), for one clip.

    log_probs: (T, V), real frames only. All results are exact sums over alignments.
    """

    def __init__(self, log_probs: torch.Tensor) -> None:
        self.log_probs = log_probs

    def start(self) -> PrefixState:
        """The empty prefix, N = 1."""
        blanks = self.log_probs[:, BLANK].cumsum(0)
        by_blank = torch.cat([blanks.new_zeros(1), blanks])[:, None]
        last = torch.full((1,), BLANK, device=blanks.device)
        return PrefixState(torch.full_like(by_blank, -torch.inf), by_blank, last, blanks.new_zeros(1))

    def ended(self, state: PrefixState) -> torch.Tensor:
        """Log probability that the reading is exactly the prefix: (N,)."""
        return torch.logaddexp(state.by_unit[-1], state.by_blank[-1])

    def extend(self, state: PrefixState, candidates: torch.Tensor) -> PrefixState:
        """Every hypothesis followed by each of its candidates, row-major: N · C prefixes.

        candidates: (N, C) units, blank and end not among them.
        """
        emitted = self.log_probs[:, candidates]  # (T, N, C)
        blank = self.log_probs[:, BLANK, None, None]
        repeats = candidates == state.last[:, None]
        # A unit the same as the last one starts anew only after a blank.
        either = torch.logaddexp(state.by_unit, state.by_blank)
        ready = torch.where(repeats, state.by_blank[:-1, :, None], either[:-1, :, None])  # (T, N, C)
        by_unit = [torch.full_like(ready[0], -torch.inf)]
        by_blank = [by_unit[0]]
        for frame in range(len(emitted)):
            either_now = torch.logaddexp(by_unit[-1], by_blank[-1])
            by_unit.append(torch.logaddexp(by_unit[-1], ready[frame]) + emitted[frame])
            by_blank.append(either_now + blank[frame])
        score = (ready + emitted).logsumexp(dim=0)
        return PrefixState(
            torch.stack(by_unit).flatten(1),
            torch.stack(by_blank).flatten(1),
            candidates.flatten(),
            score.flatten(),
        )
