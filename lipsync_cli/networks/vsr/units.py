"""What a lip reader writes: characters, words, or pieces of a published vocabulary.

Every kind is spelled alike: "▁" stands before each word ("▁bin▁blue"), and a unit is a stretch of that
spelling. Unit 0 is CTC's blank; the last unit starts and ends sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lipsync_cli.core.errors import InputError, WeightsError

BOUNDARY = "▁"
BLANK_NAME, END_NAME = "<blank>", "<eos>"


@dataclass(frozen=True)
class Units:
    """names: one a unit, `<blank>` first and `<eos>` last; the index is the unit's number."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 3 or self.names[0] != BLANK_NAME or self.names[-1] != END_NAME:
            raise ValueError(f"units must be {BLANK_NAME}, at least one more, {END_NAME}")
        if len(set(self.names)) != len(self.names):
            raise ValueError("unit names must differ")

    @classmethod
    def characters(cls, alphabet: str = "abcdefghijklmnopqrstuvwxyz'") -> Units:
        """One unit a character, and one for the word boundary."""
        return cls((BLANK_NAME, BOUNDARY, *alphabet, END_NAME))

    @classmethod
    def words(cls, vocabulary: Iterable[str]) -> Units:
        """One unit a word, in alphabetical order."""
        return cls((BLANK_NAME, *sorted({BOUNDARY + word for word in vocabulary}), END_NAME))

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> Units:
        """A published unit list, one `name number` or `name` a line, numbered from 1 in order.

        Raises: WeightsError naming a line that is empty, repeated or numbered out of order.
        """
        names: list[str] = []
        seen: set[str] = set()
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if not fields or fields[0] in seen or (len(fields) > 1 and fields[-1] != str(number)):
                raise WeightsError(
                    f'Line {number} of the unit list is not the unit of that number: "{line.strip()}".'
                )
            names.append(fields[0])
            seen.add(fields[0])
        return cls((BLANK_NAME, *names, END_NAME))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def end(self) -> int:
        return len(self.names) - 1

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.names[1:-1]))

    def encode(self, text: str) -> list[int]:
        """Text → units, always taking the longest that fits; words are what white space separates.

        Exact for characters and words. # differs from SentencePiece for published pieces, whose most likely
        segmentation needs probabilities that a unit list does not hold.
        Raises: InputError naming the word that cannot be written.
        """
        units: list[int] = []
        for word in text.split():
            rest = BOUNDARY + word
            while rest:
                size = next((n for n in range(self._longest, 0, -1) if rest[:n] in self._number), None)
                if size is None:
                    raise InputError(f'The word "{word}" cannot be written in the units of this model.')
                units.append(self._number[rest[:size]])
                rest = rest[size:]
        return units

    def fold(self, text: str) -> str:
        """Text in the case that these units are written in: published ones know capitals only."""
        letters = "".join(name for name in self.names if not name.startswith("<"))
        return text.upper() if letters.upper() == letters != letters.lower() else text.lower()

    def decode(self, units: Iterable[int]) -> str:
        """Units → text; blank and end leave no trace."""
        return " ".join("".join(self.names[u] for u in units if self.is_written(u)).split(BOUNDARY)).strip()

    def is_written(self, unit: int) -> bool:
        return 0 < unit < self.end

    def split_words(self, units: Sequence[int]) -> list[range]:
        """Which positions of `units` make up each word; a lone boundary unit belongs to the word after it."""
        starts = [i for i, u in enumerate(units) if i == 0 or self.names[u].startswith(BOUNDARY)]
        words = map(range, starts, [*starts[1:], len(units)])
        return [word for word in words if any(self.names[units[i]] != BOUNDARY for i in word)]
