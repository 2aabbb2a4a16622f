"""Readings as people and players want them: plain text, SubRip, WebVTT, CSV. Pure functions of a result."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lipsync_cli.tasks.read_text import ReadResult, Speaker, Word

LINE_CHARACTERS, LINES = 42, 2  # a subtitle's
MAX_CUE_S, PAUSE_S, MIN_CUE_S = 7.0, 0.8, 1.0
CSV_COLUMNS = ("clip", "status", "face", "word", "start_s", "end_s", "confidence")


@dataclass(frozen=True)
class Cue:
    """start_s, end_s: from the clip's first instant, as players count.  text: up to two lines."""

    start_s: float
    end_s: float
    text: str


def as_text(result: ReadResult) -> str:
    """The words; a line a speaker, named when there are several."""
    if len(result.speakers) < 2:
        return result.text
    return "\n".join(f"face {speaker.face}: {speaker.text}" for speaker in result.speakers)


def as_srt(result: ReadResult) -> str:
    blocks = [
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(result), 1)
    ]
    return "\n".join(blocks)


def as_vtt(result: ReadResult) -> str:
    blocks = [
        f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{cue.text}\n" for cue in cues(result)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def as_csv(result: ReadResult, *, header: bool = True) -> str:
    """A row a word, times of the container; one row without a word for a clip that could not be read."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(CSV_COLUMNS)
    for speaker in result.speakers:
        for word in speaker.words:
            times = f"{word.start_s:.3f}", f"{word.end_s:.3f}", f"{word.confidence:.3f}"
            writer.writerow((result.clip, result.status, speaker.face, word.text, *times))
    if not result.speakers:
        writer.writerow((result.clip, result.status, "", "", "", "", ""))
    return out.getvalue()


def cues(result: ReadResult) -> list[Cue]:
    """Subtitles in order of time: broken at pauses, at seven seconds, and at two lines of 42 characters."""
    several = len(result.speakers) > 1
    found = [
        cue
        for speaker in result.speakers
        for cue in _cues_of(speaker, f"face {speaker.face}: " if several else "", result.start_s)
    ]
    return sorted(found, key=lambda cue: (cue.start_s, cue.end_s))


def _cues_of(speaker: Speaker, name: str, start_s: float) -> Iterator[Cue]:
    groups = list(_groups(speaker.words, name))
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        begin, end = group[0].start_s, max(group[-1].end_s, group[0].start_s + MIN_CUE_S)
        if following:
            end = max(min(end, following[0].start_s), group[-1].end_s)  # long enough to read, without overlap
        text = "\n".join(_lines(name + " ".join(word.text for word in group)))
        yield Cue(max(0.0, begin - start_s), max(0.0, end - start_s), text)


def _groups(words: Sequence[Word], name: str) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        full = group and (
            word.start_s - group[-1].end_s > PAUSE_S
            or word.end_s - group[0].start_s > MAX_CUE_S
            or len(_lines(name + " ".join(w.text for w in [*group, word]))) > LINES
        )
        if full:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_CHARACTERS, break_long_words=False)


def _clock(time_s: float, point: str) -> str:
    seconds, milliseconds = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{milliseconds:03d}"
