"""Which face gets the new mouth: the only one, the one the user names, or the one that is heard speaking."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np

from lipsync_cli.core.container import check_readable
from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.dubbing.look import FaceTrack, Look
from lipsync_cli.faces.choose import (
    SPELLING,
    FaceChoice,
    choice_from_boxes,
    choose_tracks,
    parse_choice,
)
from lipsync_cli.faces.crops import Track
from lipsync_cli.tasks.offset import FaceLead, OffsetResult

MAIN_FACE = 4.0  # a face this many times larger in area than the next is the one that is meant
MIN_OVERLAP = 0.2  # intersection over union of the boxes of one face seen by two followers

Measure = Callable[[], OffsetResult | None]  # of the source; None when it has no sound


def read_choice(text: str) -> FaceChoice:
    """Read `auto`, an id, `x,y@time`, or the name of a JSON file of boxes.

    Raises: UsageError when it is none of these, InputError for a file that cannot be read.
    """
    if not text.endswith(".json"):
        try:
            return parse_choice(text)
        except UsageError as error:
            raise UsageError(error.message, f"{SPELLING}, or --face boxes.json") from None
    path = Path(text)
    check_readable(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(
            f"{path}: no JSON ({error}).", '{"boxes": [{"time": 1.5, "box": [l, t, r, b]}]}'
        ) from None
    if not isinstance(content, dict):
        content = {"boxes": content}
    return choice_from_boxes(content)


def choose_faces(
    clip: Path, look: Look, choice: FaceChoice, span: tuple[Fraction, Fraction], measure: Measure
) -> tuple[int, ...]:
    """Ids of the tracks to edit between two container times, no two of them at once; none when none is seen then.

    measure: compares the faces with the clip's own sound; called only where faces are seen together.
    Raises: InputError when there is no face, none fits, or several do and nothing decides.
    """
    if not look.tracks:
        raise InputError(
            f"{clip}: no face was found.", "look at the picture: faces smaller than 30 px are not found"
        )
    outlines = look.outlines
    try:
        meant = {track.id for track in choose_tracks(outlines, choice)}
    except InputError as error:
        raise InputError(f"{clip}: {error.message}", error.hint) from None
    tracks = [track for track in look.tracks if track.id in meant and _seen(look, track, span)]
    named = {track.id: track for track in outlines}
    chosen: list[int] = []
    for shot in sorted({track.shot for track in tracks}):
        rivals = [track for track in tracks if track.shot == shot]
        if len(rivals) > 1 and _together(rivals):
            rivals = [_speaker(clip, rivals, named, look, measure)]
        chosen += [track.id for track in rivals]
    return tuple(chosen)


def lead_of(result: OffsetResult, look: Look, chosen: tuple[int, ...]) -> FaceLead | None:
    """What was measured on the chosen face: the one of `result` that shows it longest, if any does."""
    outlines = [track for track in look.outlines if track.id in chosen]
    fits = [(max(_same_face(face, o, look) for o in outlines), face) for face in result.faces]
    fits = [(fit * (face.end_s - face.start_s), face) for fit, face in fits if fit >= MIN_OVERLAP]
    return max(fits, key=lambda row: row[0])[1] if fits else None


def _seen(look: Look, track: FaceTrack, span: tuple[Fraction, Fraction]) -> bool:
    return look.times[track.numbers[0]] < span[1] and look.times[track.numbers[-1]] >= span[0]


def _together(tracks: list[FaceTrack]) -> bool:
    return any(len(np.intersect1d(a.numbers, b.numbers)) for a, b in combinations(tracks, 2))


def _speaker(
    clip: Path, rivals: list[FaceTrack], outlines: dict[int, Track], look: Look, measure: Measure
) -> FaceTrack:
    """The face whose lips fit the clip's own sound; where none does, one that is much larger than the others."""
    result = measure()
    if result is not None:
        speaking = [face for face in result.faces if face.speaking]
        fits = [
            max((_same_face(face, outlines[r.id], look) for face in speaking), default=0.0) for r in rivals
        ]
        if max(fits) >= MIN_OVERLAP:
            return rivals[int(np.argmax(fits))]
    areas = [float(np.median([_area(box) for box in outlines[r.id].boxes])) for r in rivals]
    order = np.argsort(areas)
    if areas[order[-1]] >= MAIN_FACE * areas[order[-2]]:
        return rivals[order[-1]]
    listed = "; ".join(_told(track, look) for track in rivals)
    raise InputError(
        f"{clip}: {len(rivals)} faces are seen together and the sound does not tell whose voice it is: {listed}.",
        f"choose one: --face {rivals[0].id}",
    )


def _told(track: FaceTrack, look: Look) -> str:
    first = float(look.times[track.numbers[0]])
    x, y = (int(value) for value in np.median(track.landmarks[:: max(1, len(track.numbers) // 50)], (0, 1)))
    return f"face {track.id} around {x},{y} from {first:.1f} s"


def _same_face(face: FaceLead, outline: Track, look: Look) -> float:
    """Overlap of their median boxes, 0 when they are not seen at the same time."""
    if face.start_s > float(outline.times[-1]) or face.end_s < float(outline.times[0]):
        return 0.0
    near = [b for b, t in zip(outline.boxes, outline.times, strict=True) if face.start_s <= t <= face.end_s]
    box = np.median(near if near else outline.boxes, axis=0)
    other = face.box * np.array([*look.size_px, *look.size_px])
    shared = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None).prod()
    return float(shared / (_area(box) + _area(other) - shared))


def _area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).prod())
