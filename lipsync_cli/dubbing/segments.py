"""Which stretches of a clip get new speech: the whole of it, or those that a file lists."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from lipsync_cli.core.container import check_readable
from lipsync_cli.core.errors import UsageError

Mismatch = Literal["error", "hold", "loop", "bounce", "cut"]
MISMATCHES: tuple[str, ...] = get_args(Mismatch)
FORM = (
    'write {"segments": [{"start": 0, "end": 3.2, "audio": "line1.wav"}]}, or a CSV with these names on top'
)
_KEYS = {"start", "end", "audio", "driver_video", "face", "seed", "on_length_mismatch"}


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip and what drives the mouth in it.

    start, end: seconds on the clip's timeline; None = the clip's own.  speech: file of sound, or of video (`by_video`).
    face: as --face says it, None = as for the whole clip.  seed, mismatch: None = as for the whole clip.
    """

    start: Fraction | None
    end: Fraction | None
    speech: Path
    by_video: bool = False
    face: str | None = None
    seed: int | None = None
    mismatch: Mismatch | None = None


def read_segments(path: Path) -> tuple[Segment, ...]:
    """Segments of a JSON or CSV file, in order of time; file names in it are seen from its own folder.

    Raises: InputError when it cannot be read, UsageError when it does not have the form, or segments overlap.
    """
    check_readable(path)
    rows = _rows(path)
    segments = sorted(
        (_segment(path, number, row) for number, row in enumerate(rows)), key=lambda one: one.start or 0
    )
    for before, after in pairwise(segments):
        if before.end is None or after.start is None or before.end > after.start:
            raise UsageError(f"{path}: two segments overlap at {_seconds(after.start)} s.", FORM)
    return tuple(segments)


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines())) if path.suffix.lower() == ".csv" else json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: no list of segments ({error}).", FORM) from error
    if isinstance(rows, dict):
        rows = rows.get("segments")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: no list of segments.", FORM)
    return rows


def _segment(path: Path, number: int, row: Mapping[str, Any]) -> Segment:
    given = {key: value for key, value in row.items() if value not in (None, "")}
    where = f"{path}: segment {number}"
    if unknown := set(given) - _KEYS:
        raise UsageError(f"{where} has an unknown '{min(map(str, unknown))}'.", FORM)
    if ("audio" in given) == ("driver_video" in given):
        raise UsageError(f"{where} needs either 'audio' or 'driver_video'.", FORM)
    start, end = (_time(where, given, key) for key in ("start", "end"))
    if start is not None and end is not None and end <= start:
        raise UsageError(f"{where} ends before it starts.", FORM)
    mismatch = given.get("on_length_mismatch")
    if mismatch is not None and mismatch not in MISMATCHES:
        raise UsageError(f"{where}: no way to meet lengths is called '{mismatch}'.", ", ".join(MISMATCHES))
    seed = given.get("seed")
    if seed is not None and not str(seed).isdecimal():
        raise UsageError(f"{where}: the seed '{seed}' is not a whole number.", FORM)
    return Segment(
        start=start,
        end=end,
        speech=path.parent / str(given.get("audio") or given.get("driver_video")),
        by_video="driver_video" in given,
        face=str(given["face"]) if "face" in given else None,
        seed=None if seed is None else int(seed),
        mismatch=mismatch,
    )


def _time(where: str, row: Mapping[str, Any], key: str) -> Fraction | None:
    if key not in row:
        return None
    try:
        time = Fraction(str(row[key]))
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{where}: '{row[key]}' is no time in seconds.", FORM) from None
    if time < 0:
        raise UsageError(f"{where}: the time {row[key]} is before the clip.", FORM)
    return time


def _seconds(time: Fraction | None) -> str:
    return f"{float(time or 0):g}"
