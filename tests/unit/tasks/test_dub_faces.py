"""Choosing a face by what is heard, and finding it again in a measurement that followed faces by itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.dubbing.look import FaceTrack, Look
from lipsync_cli.tasks.dub_faces import choose_faces, lead_of, read_choice

CLIP = Path("clip.mp4")
SIZE = (1000, 500)


def track(id: int, numbers: range, x: float, size: float = 100, shot: int = 0) -> FaceTrack:
    """A face of `size` pixels whose middle is at (x, 250)."""
    count = len(numbers)
    points = np.zeros((count, 478, 2), np.float32)
    points[:, ::2] = (x - size / 2, 250 - size / 2)
    points[:, 1::2] = (x + size / 2, 250 + size / 2)
    ones = np.ones(count, np.float32)
    return FaceTrack(id, shot, np.array(numbers), points, ones, 0 * ones, ones < 0)


def look(*tracks: FaceTrack, count: int = 50) -> Look:
    times = tuple(Fraction(n, 25) for n in range(count))
    return Look(SIZE, times, Fraction(count, 25), np.zeros(0, int), tracks)


def heard(*faces: tuple[float, float, float, bool]) -> Any:
    """A measurement of faces: x of the middle in pixels, first and last second, whether it speaks."""
    rows = [
        SimpleNamespace(
            start_s=start_s,
            end_s=end_s,
            speaking=speaking,
            box=np.array([(x - 45) / 1000, 0.4, (x + 45) / 1000, 0.6]),
        )
        for x, start_s, end_s, speaking in faces
    ]
    return SimpleNamespace(faces=rows)


def choose(seen: Look, text: str = "auto", measured: Any = None, span=(0, 2)) -> tuple[int, ...]:
    span = (Fraction(span[0]), Fraction(span[1]))
    return choose_faces(CLIP, seen, read_choice(text), span, lambda: measured)


def never() -> None:
    raise AssertionError("measured without need")


def test_an_only_face_is_taken_without_listening():
    seen = look(track(0, range(50), 300))
    assert choose_faces(CLIP, seen, read_choice("auto"), (Fraction(0), Fraction(2)), never) == (0,)


def test_one_face_after_another_are_both_taken():
    seen = look(track(0, range(20), 300), track(1, range(25, 50), 700), track(2, range(5), 500, shot=1))
    assert choose_faces(CLIP, seen, read_choice("auto"), (Fraction(0), Fraction(2)), never) == (0, 1, 2)


def test_of_two_at_once_the_one_that_is_heard():
    seen = look(track(4, range(50), 300), track(7, range(50), 700))
    assert choose(seen, measured=heard((300, 0, 2, False), (700, 0, 2, True))) == (7,)
    assert choose(seen, measured=heard((305, 0, 2, True), (700, 0, 2, False))) == (4,)


@pytest.mark.parametrize("measured", [None, heard(), heard((300, 0, 2, False), (700, 0, 2, False))])
def test_a_tie_is_told_with_what_to_type(measured):
    seen = look(track(4, range(50), 300), track(7, range(50), 700))
    with pytest.raises(InputError, match="2 faces are seen together") as caught:
        choose(seen, measured=measured)
    assert "face 4 around 300,250" in caught.value.message and "face 7 around 700,250" in caught.value.message
    assert caught.value.hint == "choose one: --face 4"


def test_a_face_four_times_as_large_is_meant():
    assert choose(look(track(0, range(50), 300), track(1, range(50), 700, size=210))) == (1,)
    with pytest.raises(InputError):
        choose(look(track(0, range(50), 300), track(1, range(50), 700, size=190)))


def test_only_faces_of_the_segment_count():
    seen = look(track(0, range(20), 300), track(1, range(30, 50), 700))
    assert choose(seen, span=(1.2, 2)) == (1,)
    assert choose(seen, "1", span=(0, 0.4)) == ()


def test_no_face_at_all():
    with pytest.raises(InputError, match="no face was found"):
        choose(look())


def test_the_measurement_of_the_chosen_face_is_the_one_at_its_place_and_time():
    seen = look(track(4, range(25), 300), track(7, range(50), 700))
    result = heard((700, 0, 2, False), (300, 0, 1, True), (300, 1.5, 2, True))
    assert lead_of(result, seen, (4,)) is result.faces[1]
    assert lead_of(result, seen, (7,)) is result.faces[0]
    assert lead_of(heard((500, 0, 2, True)), seen, (4,)) is None


def test_a_file_of_boxes(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('[{"time": 1, "box": [650, 200, 750, 300]}]')
    assert choose(look(track(4, range(50), 300), track(7, range(50), 700)), str(path)) == (7,)
    path.write_text("[")
    with pytest.raises(UsageError, match="no JSON"):
        read_choice(str(path))
    with pytest.raises(InputError, match="no such file"):
        read_choice(str(tmp_path / "none.json"))
