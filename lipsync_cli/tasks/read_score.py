"""Error rates of readings against what was said: corpus and mean per sentence, words and characters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lipsync_cli.core.errors import InputError
from lipsync_cli.metrics.text import (
    EditCounts,
    character_errors,
    corpus_rate,
    mean_rate,
    normalise_text,
    word_errors,
)
from lipsync_cli.tasks.read_text import ReadResult

FORM = '{"clip": "s1/a.mp4", "text": "bin blue at f two now"}'


@dataclass(frozen=True)
class Score:
    """clips: with a reference; one that was not read counts as read empty.  unread: how many those are.

    without_reference: clips that are left out.  wer, cer: over the corpus.  mean_wer, mean_cer: of the sentences'.
    substitutions, deletions, insertions: of words.  words: in the references.
    """

    clips: int
    unread: int
    without_reference: int
    wer: float
    cer: float
    mean_wer: float
    mean_cer: float
    substitutions: int
    deletions: int
    insertions: int
    words: int


class References:
    """What was said in each clip, by path: found by its last parts, as many as the reference names."""

    def __init__(self, texts: dict[tuple[str, ...], str]) -> None:
        self._texts = texts
        self._lengths = sorted({len(parts) for parts in texts}, reverse=True)

    def find(self, clip: Path) -> str | None:
        parts = clip.absolute().parts
        for length in self._lengths:
            text = self._texts.get(parts[-length:])
            if text is not None:
                return text
        return None


def read_references(path: Path) -> References:
    """JSON Lines with `clip` (a path, or its last parts) and `text`.

    Raises: InputError when the file is missing or empty, or naming the line that is malformed or says otherwise
    than another.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the references cannot be read.", f"each line must be like {FORM}"
        ) from error
    texts: dict[tuple[str, ...], str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            parts, text = Path(row["clip"]).parts, normalise_text(row["text"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: line {number} is not a reference.", f"each line must be like {FORM}"
            ) from error
        if not parts or texts.setdefault(parts, text) != text:
            raise InputError(
                f"{path}: line {number} names a clip twice, or none.", f"sed -n {number}p '{path}'"
            )
    if not texts:
        raise InputError(f"{path}: there is no reference in the file.", f"each line must be like {FORM}")
    return References(texts)


class Scorer:
    """Counts errors as results come by, and keeps no result."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._words: list[EditCounts] = []
        self._characters: list[EditCounts] = []
        self._unread = self._without = 0

    def add(self, result: ReadResult) -> None:
        said = self._references.find(result.clip)
        if said is None:
            self._without += 1
            return
        self._unread += result.status != "ok"
        read = normalise_text(result.text)
        self._words.append(word_errors(said, read))
        self._characters.append(character_errors(said, read))

    def score(self) -> Score:
        """Raises: InputError when no clip had a reference."""
        words = self._words
        if not sum(count.length for count in words):
            raise InputError("no clip has a reference.", f"name clips as they were given: {FORM}")
        return Score(
            clips=len(words),
            unread=self._unread,
            without_reference=self._without,
            wer=corpus_rate(words),
            cer=corpus_rate(self._characters),
            mean_wer=mean_rate(words),
            mean_cer=mean_rate(self._characters),
            **_kinds(words),
            words=sum(count.length for count in words),
        )


def _kinds(words: Sequence[EditCounts]) -> dict[str, int]:
    return {
        kind: sum(getattr(count, kind) for count in words)
        for kind in ("substitutions", "deletions", "insertions")
    }
