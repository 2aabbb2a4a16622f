"""A small n-gram model over units, to lean the beam search towards likely sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch


class NgramModel:
    """Interpolated n-gram with Witten-Bell smoothing (Witten and Bell 1991, method C).

    p(u | h) = (count(hu) + kinds(h) · p(u | shorter h)) / (count(h·) + kinds(h)), where kinds(h) is how many
    different units followed h; below the single unit all units but blank are equally likely.
    """

    def __init__(self, sentences: Iterable[Sequence[int]], units: int, order: int = 3) -> None:
        """sentences: units without start and end; units: how many there are, blank and end included."""
        if order < 1:
            raise ValueError(f"order must be at least 1, not {order}")
        self.units, self.order = units, order
        self._followers: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for sentence in sentences:
            padded = (units - 1, *sentence, units - 1)
            for i in range(1, len(padded)):
                for size in range(order):
                    if size <= i:
                        self._followers[padded[i - size : i]][padded[i]] += 1

    def __call__(self, prefixes: Sequence[Sequence[int]]) -> torch.Tensor:
        """Log probabilities of the next unit after each prefix (first the start unit): (N, units)."""
        return torch.stack([self._next(tuple(prefix)) for prefix in prefixes]).log()

    def _next(self, prefix: tuple[int, ...]) -> torch.Tensor:
        probability = torch.full((self.units,), 1 / (self.units - 1))
        probability[0] = 0
        for size in range(min(self.order - 1, len(prefix)) + 1):
            followers = self._followers.get(prefix[len(prefix) - size :])
            if followers is None:
                break
            counts = torch.zeros(self.units)
            counts[list(followers)] = torch.tensor(list(followers.values()), dtype=torch.float32)
            probability = (counts + len(followers) * probability) / (counts.sum() + len(followers))
        return probability
