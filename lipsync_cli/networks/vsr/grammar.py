"""Which sentences may be read: every unit the beam search adds must lead towards one of them.

A grammar is a small machine over the characters of the spelling ("▁bin▁blue"), so it serves characters, words
and pieces alike, however a piece cuts a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lipsync_cli.core.errors import InputError
from lipsync_cli.networks.vsr.units import BOUNDARY, Units

State = tuple[int, str]  # which slot is being written (-1: none yet), and what of it stands already

GRID_SLOTS: tuple[tuple[str, ...], ...] = (  # Cooke et al. 2006, table I: no w, whose name alone is long
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
GRID_WORDS: tuple[str, ...] = tuple(sorted({word for slot in GRID_SLOTS for word in slot}))


@dataclass(frozen=True)
class Grammar:
    """Sentences of one word from each slot, in order; `repeats` = any number of words from a single slot."""

    units: Units
    slots: tuple[frozenset[str], ...]
    repeats: bool = False

    def __post_init__(self) -> None:
        if not self.slots or not all(self.slots) or (self.repeats and len(self.slots) != 1):
            raise ValueError("a grammar needs words in every slot, and one slot to repeat")
        for word in set().union(*self.slots):
            self.units.encode(word)  # refuses a word that could never be written

    @classmethod
    def grid(cls, units: Units) -> Grammar:
        """The 64,000 sentences of the GRID corpus."""
        return cls(units, tuple(map(frozenset, GRID_SLOTS)))

    @classmethod
    def words(cls, units: Units, lines: Iterable[str]) -> Grammar:
        """Any sequence of the words in a list, one a line; blank lines are skipped.

        Raises: InputError for a list without words, a line of several, or a word the units cannot write.
        """
        words = [line.strip() for line in lines if line.strip()]
        several = next((word for word in words if len(word.split()) > 1), None)
        if several:
            raise InputError(f'The word list holds "{several}" on one line.', "Put one word on each line.")
        if not words:
            raise InputError("The word list holds no words.", "Put one word on each line.")
        return cls(units, (frozenset(words),), repeats=True)

    @property
    def start(self) -> State:
        return (-1, "")

    def allowed(self, state: State) -> Sequence[int]:
        """The units that may be written next, the end among them when a sentence may end here."""
        if state not in self._allowed:
            names = self.units.names
            written = [u for u in range(1, self.units.end) if self._leads_on(self._walk(state, names[u]))]
            self._allowed[state] = [*written, self.units.end] if self._complete(state) else written
        return self._allowed[state]

    def advance(self, state: State, unit: int) -> State:
        """The state after writing an allowed unit. Raises: ValueError for one that is not allowed."""
        after = self._walk(state, self.units.names[unit])
        if after is None:
            raise ValueError(f'"{self.units.names[unit]}" is not allowed after {state}')
        return after

    @cached_property
    def _allowed(self) -> dict[State, list[int]]:
        return {}

    @cached_property
    def _prefixes(self) -> tuple[frozenset[str], ...]:
        return tuple(frozenset(w[:n] for w in slot for n in range(len(w) + 1)) for slot in self.slots)

    @cached_property
    def _stems(self) -> tuple[frozenset[str], ...]:
        """What may stand of each slot's words: the units can write the rest. "b" of "bin" may not where the units
        are whole words and "b" is another one."""
        pieces = frozenset(name for name in self.units.names[1:-1] if not name.startswith(BOUNDARY))
        return tuple(
            frozenset(w[:n] for w in slot for n in range(len(w) + 1) if _is_made_of(w[n:], pieces))
            for slot in self.slots
        )

    def _leads_on(self, state: State | None) -> bool:
        """Whether a sentence can be completed from here."""
        return state is not None and state[1] in self._stems[state[0]]

    def _complete(self, state: State) -> bool:
        slot, stem = state
        return (self.repeats or slot == len(self.slots) - 1) and slot >= 0 and stem in self.slots[slot]

    def _walk(self, state: State, characters: str) -> State | None:
        slot, stem = state
        for character in characters:
            if character == BOUNDARY:
                if slot >= 0 and stem not in self.slots[slot]:
                    return None
                slot, stem = (0 if self.repeats else slot + 1), ""
                if slot == len(self.slots):
                    return None
            else:
                stem += character
                if slot < 0 or stem not in self._prefixes[slot]:
                    return None
        return slot, stem


def _is_made_of(text: str, pieces: frozenset[str]) -> bool:
    ends = {0}  # of what can be made of the first characters
    for end in range(1, len(text) + 1):
        if any(text[start:end] in pieces for start in ends):
            ends.add(end)
    return len(text) in ends
