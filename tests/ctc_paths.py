"""CTC by enumeration: every path of T frames over V units, what it reads and how likely it is."""

import itertools
import math
from collections import defaultdict


def read(path: tuple[int, ...]) -> tuple[int, ...]:
    """Merge repeats, then drop blanks (unit 0)."""
    merged = [unit for unit, _ in itertools.groupby(path)]
    return tuple(unit for unit in merged if unit != 0)


def path_probabilities(log_probs) -> dict[tuple[int, ...], float]:
    rows = log_probs.double().tolist()
    paths = itertools.product(range(len(rows[0])), repeat=len(rows))
    return {p: math.exp(sum(row[u] for row, u in zip(rows, p, strict=True))) for p in paths}


def reading_probabilities(log_probs) -> dict[tuple[int, ...], float]:
    readings: dict[tuple[int, ...], float] = defaultdict(float)
    for path, probability in path_probabilities(log_probs).items():
        readings[read(path)] += probability
    return readings
