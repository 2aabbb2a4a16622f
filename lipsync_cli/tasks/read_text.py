"""What was read of one clip: words with times and confidences, by speaker, and how they come together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "no_face", "no_motion", "error"]
SAME_WORD_S = 0.25  # two readings of one stretch put the same word this close together


@dataclass(frozen=True)
class Word:
    """start_s, end_s: of the container.  confidence: 0…1, `networks.vsr.beam.word_confidences`."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Sentence:
    """One reading of one piece.  score: of the beam search, natural log; comparable within a piece only."""

    text: str
    score: float


@dataclass(frozen=True)
class Reading:
    """What one piece says.

    start_s, end_s: of the piece.  overlap_s: how much of it the piece of this face before has too.
    words: of the best sentence.  best: sentences, best first.
    """

    face: int
    shot: int
    start_s: float
    end_s: float
    overlap_s: float
    words: tuple[Word, ...]
    best: tuple[Sentence, ...]


@dataclass(frozen=True)
class Speaker:
    """What one face says in one shot. confidence: geometric mean of the words'.  readings: its pieces, as they were."""

    face: int
    shot: int
    text: str
    confidence: float
    words: tuple[Word, ...]
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class ReadResult:
    """The answer for one clip.

    status: ok; no_face; no_motion (no mouth moves as if it spoke, or not for long enough); error.
    message, hint: why it is not ok.  exit_code: of `core.errors`, 0 when ok.
    text: of all speakers, in the order in which they begin.  start_s, duration_s: of the container.
    """

    clip: Path
    status: Status
    text: str = ""
    speakers: tuple[Speaker, ...] = ()
    start_s: float = 0.0
    duration_s: float = 0.0
    exit_code: int = 0
    message: str = ""
    hint: str = ""


def gather_speakers(readings: Sequence[Reading]) -> tuple[Speaker, ...]:
    """Speakers in the order in which they begin; pieces that overlap are stitched. Faces that said nothing are left out."""
    faces: dict[int, list[Reading]] = {}
    for reading in sorted(readings, key=lambda reading: (reading.start_s, reading.face)):
        faces.setdefault(reading.face, []).append(reading)
    speakers = []
    for face, pieces in faces.items():
        words: tuple[Word, ...] = ()
        for piece in pieces:
            words = stitch_words(words, piece.words, piece.start_s + piece.overlap_s / 2)
        if words:
            text = " ".join(word.text for word in words)
            mean = math.exp(sum(math.log(max(word.confidence, 1e-9)) for word in words) / len(words))
            speakers.append(Speaker(face, pieces[0].shot, text, mean, words, tuple(pieces)))
    return tuple(speakers)


def stitch_words(before: Sequence[Word], after: Sequence[Word], seam_s: float) -> tuple[Word, ...]:
    """Two readings of overlapping stretches as one: each is believed on its own side of the seam.

    A word belongs where its middle lies; one that both readings put at the seam is kept once.
    """
    kept = [word for word in before if _middle(word) < seam_s]
    added = [word for word in after if _middle(word) >= seam_s]
    if (
        kept
        and added
        and kept[-1].text == added[0].text
        and _middle(added[0]) - _middle(kept[-1]) < SAME_WORD_S
    ):
        del added[0]
    # at the seam each reading may have put the same word on the other's side, and it would be lost
    first = after[len(after) - len(added) - 1] if len(added) < len(after) else None
    last = before[len(kept)] if len(kept) < len(before) else None
    if first and last and first.text == last.text and abs(_middle(first) - _middle(last)) < SAME_WORD_S:
        lost = all(abs(_middle(word) - _middle(first)) >= SAME_WORD_S for word in (*kept[-1:], *added[:1]))
        if lost:
            kept.append(max(first, last, key=lambda word: word.confidence))
    return (*kept, *added)


def _middle(word: Word) -> float:
    return (word.start_s + word.end_s) / 2
