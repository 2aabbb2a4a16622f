"""Which faces a verb works on, as the user says it: all, one by its id, by a point on a frame, or by boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.faces.crops import Track

SPELLING = "use --face auto, --face 2 (an id), or --face 640,360@1.5 (a point in pixels at a time in seconds)"
MIN_OVERLAP = 0.3  # intersection over union, between a box of the user's and one of a track
NEAR_S = 0.25  # a track that is this far in time from what the user named is not meant


@dataclass(frozen=True)
class FaceAt:
    """A place where the user says the face is.  box: xyxy pixels; a point has no area.  time_s: on the timeline."""

    box: tuple[float, float, float, float]
    time_s: float


@dataclass(frozen=True)
class FaceChoice:
    """What the user asked for; all empty means every track, of which `sync` picks the speaker."""

    track_id: int | None = None
    places: tuple[FaceAt, ...] = ()


def parse_choice(text: str) -> FaceChoice:
    """Read `auto`, an id, or `x,y@time`.

    Raises: UsageError for anything else.
    """
    if text == "auto":
        return FaceChoice()
    if text.isdecimal():
        return FaceChoice(track_id=int(text))
    try:
        point, time = text.split("@")
        x, y = _numbers(point.split(","), 2)
        (time_s,) = _numbers([time], 1)
    except ValueError:
        raise UsageError(f"'{text}' does not name a face.", SPELLING) from None
    return FaceChoice(places=(FaceAt((x, y, x, y), time_s),))


def choice_from_boxes(content: Mapping[str, object]) -> FaceChoice:
    """Read `{"boxes": [{"time": 1.5, "box": [left, top, right, bottom]}, …]}`, seconds and pixels.

    Raises: UsageError when it does not have this form.
    """
    form = 'write {"boxes": [{"time": 1.5, "box": [left, top, right, bottom]}]}'
    rows = content.get("boxes")
    if not isinstance(rows, list) or not rows:
        raise UsageError("the file of boxes has no list 'boxes'.", form)
    places = []
    for number, row in enumerate(rows):
        try:
            left, top, right, bottom = _numbers(row["box"], 4)
            (time_s,) = _numbers([row["time"]], 1)
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"boxes[{number}] of the file of boxes is not a time and a box.", form) from None
        if right <= left or bottom <= top:
            raise UsageError(f"boxes[{number}] of the file of boxes is empty or turned round.", form)
        places.append(FaceAt((left, top, right, bottom), time_s))
    return FaceChoice(places=tuple(places))


def choose_tracks(tracks: Sequence[Track], choice: FaceChoice) -> list[Track]:
    """The tracks that are meant, in their order. Boxes and points are in the pixels of the tracks' boxes.

    Each place gives the one track that fits it best, so that boxes can follow a person through several shots.
    Raises: InputError when there is no face at all, or none that fits.
    """
    if not tracks:
        raise InputError("no face was found.")
    if choice.track_id is not None:
        chosen = {choice.track_id}
    elif choice.places:
        chosen = {_track_at(tracks, place) for place in choice.places}
    else:
        return list(tracks)
    meant = [track for track in tracks if track.id in chosen]
    if not meant:
        ids = ", ".join(str(track.id) for track in tracks)
        raise InputError(f"no face fits the choice; the faces found have the ids {ids}.", SPELLING)
    return meant


def _track_at(tracks: Sequence[Track], place: FaceAt) -> int | None:
    best: tuple[float, int] | None = None
    for track in tracks:
        times_s = np.array([float(time) for time in track.times])
        nearest = int(np.abs(times_s - place.time_s).argmin())
        if abs(times_s[nearest] - place.time_s) > NEAR_S:
            continue
        fit = _fit(track.boxes[nearest], np.array(place.box))
        if fit > 0 and (best is None or fit > best[0]):
            best = (fit, track.id)
    return best[1] if best else None


def _fit(box: np.ndarray, place: np.ndarray) -> float:
    """How well a track's box fits, 0 for not at all: overlap with a box, nearness of its middle to a point in it."""
    if (place[2:] > place[:2]).all():
        shared = np.clip(np.minimum(box[2:], place[2:]) - np.maximum(box[:2], place[:2]), 0, None).prod()
        overlap = shared / ((box[2:] - box[:2]).prod() + (place[2:] - place[:2]).prod() - shared)
        return float(overlap) if overlap >= MIN_OVERLAP else 0.0
    point = place[:2]
    if (point < box[:2]).any() or (point > box[2:]).any():
        return 0.0
    return 1 / (1 + float(np.linalg.norm(point - (box[:2] + box[2:]) / 2)))


def _numbers(values: object, num: int) -> list[float]:
    numbers = [float(value) for value in values]  # type: ignore[attr-defined]
    if len(numbers) != num or not all(math.isfinite(number) for number in numbers):
        raise ValueError
    return numbers
