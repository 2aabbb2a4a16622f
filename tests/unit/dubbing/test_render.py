"""Rendering with an engine that paints: right pictures, right times, untouched elsewhere, the same from anywhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipsync_cli.core.progress import SILENT
from lipsync_cli.dubbing.engine import SoundDrive
from lipsync_cli.dubbing.look import FaceTrack, Look, take_look
from lipsync_cli.dubbing.plan import PlannedSegment, make_plan, whole_reel
from lipsync_cli.dubbing.reel import lengthened
from lipsync_cli.dubbing.render import Job, render
from lipsync_cli.faces.mouth import mouth_polygon
from lipsync_cli.media.pixels import pixel_layout, samples
from lipsync_cli.media.probe import probe
from lipsync_cli.tasks.faces import face_models
from tests.dub_engine import ON_THE_GRID, SPEC, PaintEngine
from tests.face_clips import write_face_clip

ALWAYS = SoundDrive(np.zeros(16_000 * 4, np.float32), np.ones(100, bool))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[Path, Look]:
    folder = tmp_path_factory.mktemp("render")
    path = write_face_clip(folder / "face.mp4", seconds=1.6)
    return path, take_look(probe(path), face_models(), folder / "look", SILENT)


def job(clip, engine, *segments, reel=None, look=None) -> Job:
    path, seen = clip
    seen = look or seen
    reel = reel or whole_reel(seen)
    if not segments:
        segments = (PlannedSegment(reel.times[0], reel.end, Path("x"), False, reel.end, 0, (0,)),)
    return Job(path, seen, make_plan(seen, reel, segments), engine, lambda _: ALWAYS, lambda *_: None)


def planes(picture) -> list[np.ndarray]:
    return [np.array(samples(picture, c)) for c in pixel_layout(picture.format.name).channels]


def rendered(one: Job, start: int = 0):
    return {position: (native, picture) for position, native, picture in render(one, start)}


def test_the_look_saw_the_face_in_every_picture(clip):
    _, look = clip
    assert len(look.times) == 40 and look.end == Fraction(8, 5) and look.size_px == (320, 320)
    assert [len(track.numbers) for track in look.tracks] == [40]
    mouth = look.tracks[0].landmarks[:, 13].mean(0)
    assert mouth == pytest.approx([160, 158], abs=8)  # of the photo at this size


def test_a_look_that_was_taken_is_not_taken_again(clip, tmp_path):
    path, look = clip
    first = take_look(probe(path), face_models(), tmp_path / "look", SILENT)

    class Blind:
        def load(self):
            raise AssertionError("looked again")

    again = take_look(probe(path), Blind(), tmp_path / "look", SILENT)
    assert again.times == first.times == look.times
    assert np.array_equal(again.tracks[0].landmarks, first.tracks[0].landmarks)


def test_outside_the_mask_every_sample_is_the_sources(clip):
    one = job(clip, PaintEngine())
    _, look = clip
    for position, (native, picture) in rendered(one).items():
        outline = mouth_polygon(look.tracks[0].landmarks[position : position + 1])[0]
        mask = np.zeros((320, 320), np.uint8)
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
        near = cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0  # landmarks are steadied over time
        for plane, (old, new) in enumerate(zip(planes(native.picture), planes(picture), strict=True)):
            here = near if plane == 0 else near[::2, ::2] | near[1::2, 1::2]
            assert not (old != new)[~here].any(), (position, plane)
        assert (planes(native.picture)[0] != planes(picture)[0]).sum() > 500
        assert picture.pts == native.picture.pts and picture.format.name == "yuv420p"


@pytest.mark.parametrize("spec", [SPEC, ON_THE_GRID, replace(ON_THE_GRID, window_frames=1, overlap_frames=0)])
def test_the_mouth_is_that_of_its_own_time(clip, spec):
    engine = PaintEngine(spec)
    for position, (_, picture) in rendered(job(clip, engine)).items():
        green = picture.to_ndarray(format="rgb24")[156:164, 155:165, 1].mean()
        assert green == pytest.approx(int(position * 0.04 * 40), abs=14), position
    assert engine.calls == [f"prepare {spec.reference_frames}", "release"]


@pytest.mark.parametrize("spec", [SPEC, ON_THE_GRID])
@pytest.mark.parametrize("start", [1, 9, 22, 39])
def test_from_anywhere_the_pictures_are_those_of_an_unbroken_run(clip, spec, start):
    whole = rendered(job(clip, PaintEngine(spec)))
    part = rendered(job(clip, PaintEngine(spec)), start)
    assert list(part) == list(range(start, 40))
    for position, (_, picture) in part.items():
        for a, b in zip(planes(picture), planes(whole[position][1]), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("spec", [SPEC, ON_THE_GRID])
def test_clips_of_one_to_three_pictures(tmp_path, count, spec):
    path = write_face_clip(tmp_path / "short.mp4", seconds=count / 25)
    look = take_look(probe(path), face_models(), tmp_path / "look", SILENT)
    out = rendered(job((path, look), PaintEngine(spec)))
    assert list(out) == list(range(count))
    assert all((planes(n.picture)[0] != planes(p)[0]).any() for n, p in out.values())


def test_pictures_between_runs_are_the_decoders_own(clip):
    _, look = clip
    segment = PlannedSegment(look.times[10], look.times[20], Path("x"), False, look.times[20], 0, (0,))
    out = rendered(job(clip, PaintEngine(), segment))
    for position, (native, picture) in out.items():
        assert (picture is native.picture) == (not 10 <= position < 20)


def test_where_the_shot_goes_on_the_new_mouth_comes_softly(clip):
    _, look = clip
    segment = PlannedSegment(look.times[10], look.times[20], Path("x"), False, look.times[20], 0, (0,))
    out = rendered(job(clip, PaintEngine(), segment))
    change = [np.abs(planes(p)[0].astype(int) - planes(n.picture)[0]).sum() for n, p in out.values()]
    assert 0 == change[9] < change[10] < change[11] < change[12] < 1.2 * change[13]
    assert change[13] * 0.4 > change[10] and change[19] < change[18] < change[17]


def test_every_segment_and_face_has_its_own_preparation(clip):
    _, look = clip
    halves = [
        PlannedSegment(look.times[a], look.times[b], Path("x"), False, look.times[b], seed, (0,))
        for a, b, seed in ((0, 15, 1), (15, 30, 2))
    ]
    engine = PaintEngine()
    rendered(job(clip, engine, *halves))
    assert engine.calls == ["prepare 5", "release", "prepare 5", "release"]
    assert engine.windows[0][0] == 0 and 0.0 in [window[0] for window in engine.windows[1:]]


def test_a_gap_in_a_face_is_two_runs_of_one_preparation(clip):
    _, look = clip
    track = look.tracks[0]
    seen = np.r_[0:12, 16:40]
    columns = (track.landmarks, track.scores, track.yaw_deg, track.covered)
    gap = FaceTrack(0, 0, track.numbers[seen], *(column[seen] for column in columns))
    engine = PaintEngine()
    out = rendered(job(clip, engine, look=replace(look, tracks=(gap,))))
    assert engine.calls == ["prepare 5", "release"]
    assert [p for p, (native, picture) in out.items() if picture is native.picture] == [12, 13, 14, 15]


@pytest.mark.parametrize("how", ["hold", "loop", "bounce"])
def test_pictures_that_are_added_get_mouths_of_their_own(clip, how):
    _, look = clip
    reel = lengthened(whole_reel(look), Fraction(5, 2), how)
    out = rendered(job(clip, PaintEngine(), reel=reel))
    assert len(out) == 63
    native, picture = out[55]
    assert native.time == look.times[reel.numbers[55]]
    green = picture.to_ndarray(format="rgb24")[156:164, 155:165, 1].mean()
    assert green == pytest.approx(int(2.2 * 40), abs=14)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60)])
def test_a_network_of_25_hertz_keeps_time_at_the_sources_own_rate(tmp_path, rate):
    path = write_face_clip(tmp_path / "face.mp4", seconds=1, rate=rate)
    look = take_look(probe(path), face_models(), tmp_path / "look", SILENT)
    engine = PaintEngine(ON_THE_GRID)
    out = rendered(job((path, look), engine))
    assert len(out) == len(look.times)
    for position, (_, picture) in out.items():
        green = picture.to_ndarray(format="rgb24")[156:164, 155:165, 1].mean()
        assert green == pytest.approx(float(look.times[position]) * 40, abs=15)
    times_s = np.unique(np.concatenate(engine.windows))
    assert np.allclose(np.diff(times_s), 0.04)


@pytest.fixture
def ctrl_c():
    """Where the tests run in the background, Ctrl-C is ignored; here it is heard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_a_long_preparation(clip, ctrl_c):
    """As when somebody presses Ctrl-C while the engine is fitted to the face."""

    class Slow(PaintEngine):
        def prepare(self, references, drive, seed, tell):
            super().prepare(references, drive, seed, tell)
            for step in range(6000):
                time.sleep(0.01)
                tell("fitting", step, 6000)

    started = time.perf_counter()
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        list(render(job(clip, Slow())))
    assert time.perf_counter() - started < 20
