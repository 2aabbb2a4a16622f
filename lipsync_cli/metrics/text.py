"""Word and character error rates, with the alignment behind them (SyncLipMAE §5, visual speech recognition).

WER = (S + D + I) / N over the words of the reference; CER the same over its characters, spaces included. Over
many sentences, `corpus_rate` sums before dividing and is what papers report; `mean_rate` averages the
sentences' rates, as LipNet-style code does. They agree only when all references are equally long.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Pair = tuple[Hashable | None, Hashable | None]
"""A reference item and the hypothesis item that stands for it; None: inserted, or deleted."""


@dataclass(frozen=True)
class EditCounts:
    """How a hypothesis differs from a reference of `length` items."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference item; may exceed 1. For an empty reference 0 without errors, else infinite."""
        if self.length == 0:
            return float("inf") if self.errors else 0.0
        return self.errors / self.length


def normalise_text(text: str) -> str:
    """Lower case, punctuation dropped except apostrophes inside words, single spaces."""
    text = re.sub(r"[^\w\s']|_", " ", text.lower().replace("’", "'"))
    return " ".join(word.strip("'") for word in text.split() if word.strip("'"))


def align(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> list[Pair]:
    """A shortest edit of reference into hypothesis (Levenshtein), item by item.

    Of equally short edits, the one that matches or substitutes latest.
    """
    costs = _edit_costs(reference, hypothesis)
    i, j = len(reference), len(hypothesis)
    pairs: list[Pair] = []
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (reference[i - 1] != hypothesis[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
            pairs.append((reference[i], None))
        else:
            j -= 1
            pairs.append((None, hypothesis[j]))
    return pairs[::-1]


def count_edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> EditCounts:
    """Substitutions, deletions and insertions of `align`."""
    pairs = align(reference, hypothesis)
    return EditCounts(
        substitutions=sum(r is not None and h is not None and r != h for r, h in pairs),
        deletions=sum(h is None for _, h in pairs),
        insertions=sum(r is None for r, _ in pairs),
        length=len(reference),
    )


def word_errors(reference: str, hypothesis: str) -> EditCounts:
    """Edits between words, as they stand: see `normalise_text`."""
    return count_edits(reference.split(), hypothesis.split())


def character_errors(reference: str, hypothesis: str) -> EditCounts:
    """Edits between characters, runs of white space counting as one space."""
    return count_edits(" ".join(reference.split()), " ".join(hypothesis.split()))


def corpus_rate(sentences: Sequence[EditCounts]) -> float:
    """All errors over all reference items. Raises: ValueError when there is no reference item."""
    length = sum(s.length for s in sentences)
    if length == 0:
        raise ValueError("an error rate needs at least one reference item")
    return sum(s.errors for s in sentences) / length


def mean_rate(sentences: Sequence[EditCounts]) -> float:
    """The mean of the sentences' rates. Raises: ValueError when there is no sentence."""
    if not sentences:
        raise ValueError("an error rate needs at least one sentence")
    return sum(s.rate for s in sentences) / len(sentences)


def _edit_costs(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> list[list[int]]:
    """costs[i][j]: fewest edits of the first i reference items into the first j hypothesis items."""
    costs = [list(range(len(hypothesis) + 1))]
    for i, item in enumerate(reference, start=1):
        row = [i]
        for j, other in enumerate(hypothesis, start=1):
            row.append(min(costs[-1][j] + 1, row[-1] + 1, costs[-1][j - 1] + (item != other)))
        costs.append(row)
    return costs
