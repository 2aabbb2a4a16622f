"""What every engine must do, whatever its network: the pipeline counts on nothing else.

A new engine joins by a line in `ENGINES`: a function that makes it, small and with random weights, from an empty folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lipsync_cli.core.errors import InputError
from lipsync_cli.dubbing.engine import Crops, Drive, DubEngine, FaceDrive, SoundDrive
from lipsync_cli.dubbing.windows import Joiner, lay_windows
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.tasks.engines import load_engine
from tests.dub_engine import ON_THE_GRID, SPEC, PaintEngine
from tests.speaking_faces import mesh


def _flashlips_tiny(folder: Path) -> DubEngine:
    from lipsync_cli.networks.flashlips.audio2lips import AudioToLipsConfig
    from lipsync_cli.networks.flashlips.speech import SpeechConfig
    from lipsync_cli.networks.flashlips.tiny import TinyConfig, TinyFlashLips, save_tiny

    torch.manual_seed(0)
    config = TinyConfig()
    lips = config.lips.numbers
    hearing = AudioToLipsConfig(
        SpeechConfig("mel", width=8, hidden=8),
        frames=10,
        lips=lips,
        references=2,
        pose=16,
        width=16,
        depth=1,
        heads=2,
    )
    save_tiny(TinyFlashLips(replace(config, audio2lips=hearing)), folder, "CC0-1.0", {})
    return load_engine(str(folder), "cpu", {"adapt": "off"})


def _flashlips(folder: Path) -> DubEngine:
    from tests.unit.tasks.test_flashlips_latent import folder_of

    return load_engine(folder_of(folder), "cpu", {})


def _latentsync(folder: Path) -> DubEngine:
    from tests.tiny_latentsync import write_tiny_latentsync

    return load_engine(str(write_tiny_latentsync(folder)), "cpu", {"steps": "2"})


ENGINES: dict[str, Callable[[Path], DubEngine]] = {
    "paint": lambda _: PaintEngine(SPEC),
    "paint-grid": lambda _: PaintEngine(ON_THE_GRID),
    "flashlips-tiny": _flashlips_tiny,
    "flashlips": _flashlips,
    "latentsync": _latentsync,
}
SHORT_S = 1.0


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory) -> DubEngine:
    torch.set_num_threads(1)
    return ENGINES[request.param](tmp_path_factory.mktemp("model"))


def source_landmarks(count: int) -> np.ndarray:
    """A speaking face that sways through a picture of 640 × 480, (count, 478, 2)."""
    opening = np.random.default_rng(1).random(count)
    face = mesh(opening, CropGeometry(200)).astype(np.float32)
    sway = np.stack([200 + 10 * np.sin(np.arange(count) / 9), 120 + 5 * np.cos(np.arange(count) / 7)], -1)
    return (face + sway[:, None]).astype(np.float32)


def crops_of(engine: DubEngine, count: int, first: int = 0) -> Crops:
    """Noise, softened, with the landmarks that the engine's own alignment gives."""
    side = engine.spec.side_px
    times_s = np.arange(count + first) / 25
    points = source_landmarks(count + first)
    matrices = engine.align(points, times_s)
    inside = np.einsum("nij,npj->npi", matrices[:, :, :2], points) + matrices[:, None, :, 2]
    images = np.random.default_rng(2).integers(60, 200, (count + first, side, side, 3), np.uint8)
    return Crops(images[first:], inside[first:].astype(np.float32), times_s[first:])


def drive_of(engine: DubEngine, kind: str) -> Drive:
    if kind == "video":
        return FaceDrive(crops_of(engine, round(25 * SHORT_S)))
    samples = np.random.default_rng(4).normal(0, 0.1, round(16_000 * SHORT_S)).astype(np.float32)
    return SoundDrive(samples, np.ones(round(25 * SHORT_S), bool))


def prepared(engine: DubEngine, *, kind: str | None = None, seed: int = 0, references: int = 4) -> DubEngine:
    kind = kind or min(engine.spec.drives)
    count = min(references, engine.spec.reference_frames)
    engine.prepare(crops_of(engine, count), drive_of(engine, kind), seed, lambda *_: None)
    return engine


@pytest.fixture
def ready(engine):
    yield prepared(engine)
    engine.release()


def same(one: Crops, part: slice) -> Crops:
    return Crops(one.images[part], one.landmarks[part], one.times_s[part])


def test_it_says_what_it_is(engine):
    spec = engine.spec
    assert spec.name and spec.model and spec.side_px >= 32 and spec.reference_frames >= 1
    assert spec.drives and spec.drives <= {"audio", "video"}
    assert spec.window_frames >= 1 and 0 <= spec.overlap_frames < spec.window_frames


@pytest.mark.parametrize("count", [1, 2, 40])
def test_alignment_is_a_similarity_that_follows_the_face(engine, count):
    points, times_s = source_landmarks(count), np.arange(count) / 25
    matrices = engine.align(points, times_s)
    assert matrices.shape == (count, 2, 3) and matrices.dtype == np.float64
    a, b, c, d = (matrices[:, i, j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    assert np.allclose(a, d) and np.allclose(b, -c) and (a > 0).all()
    moved = engine.align(points + np.float32([30, -20]), times_s)
    shift = matrices[:, :, :2] @ np.array([30, -20])
    assert np.allclose(moved[:, :, 2] + shift, matrices[:, :, 2], atol=0.05)
    inside = np.einsum("nij,npj->npi", matrices[:, :, :2], points[:, [61, 291]]) + matrices[:, None, :, 2]
    assert (inside > 0).all() and (inside < engine.spec.side_px).all()  # the corners of the mouth


@pytest.mark.parametrize("count", [1, 2, 3, None])
def test_as_many_frames_come_out_as_go_in(ready, count):
    count = count or ready.spec.window_frames
    given = crops_of(ready, count)
    kept = given.images.copy()
    made = ready.generate(given)
    assert made.shape == (count, ready.spec.side_px, ready.spec.side_px, 3) and made.dtype == np.uint8
    assert np.array_equal(given.images, kept), "the crops were written into"


def test_the_same_again_gives_the_same_frames_bit_for_bit(engine):
    given = crops_of(engine, min(3, engine.spec.window_frames))
    made = []
    for _ in range(2):
        made.append(prepared(engine, seed=3).generate(given))
        engine.release()
    assert np.array_equal(*made)


def test_every_drive_it_names_can_drive_it(engine):
    given = crops_of(engine, 2)
    for kind in engine.spec.drives:
        made = prepared(engine, kind=kind).generate(same(given, slice(0, min(2, engine.spec.window_frames))))
        assert made.std() > 0
        engine.release()


def test_times_after_the_drive_has_ended_are_answered(ready):
    given = crops_of(ready, min(2, ready.spec.window_frames), first=round(25 * SHORT_S) + 30)
    assert len(ready.generate(given)) == len(given.images)


def test_one_reference_is_enough(engine):
    made = prepared(engine, references=1).generate(crops_of(engine, 1))
    assert len(made) == 1
    engine.release()


def test_a_drive_that_holds_nothing_is_refused_or_keeps_the_mouth_shut(engine):
    """Refusing is an InputError; nothing else may come of it."""
    side = engine.spec.side_px
    nothing: list[Drive] = []
    if "audio" in engine.spec.drives:
        nothing.append(SoundDrive(np.zeros(16_000, np.float32), np.zeros(25, bool)))
    if "video" in engine.spec.drives:
        none = Crops(np.zeros((0, side, side, 3), np.uint8), np.zeros((0, 478, 2), np.float32), np.zeros(0))
        nothing.append(FaceDrive(none))
    for drive in nothing:
        try:
            engine.prepare(crops_of(engine, 2), drive, 0, lambda *_: None)
            engine.generate(crops_of(engine, 1))
        except InputError:
            pass
        engine.release()


def test_releasing_twice_harms_nothing(engine):
    prepared(engine)
    engine.release()
    engine.release()


def test_windows_join_into_one_run(engine):
    """Without overlap an answer must not depend on its window; with overlap every frame is answered once."""
    spec = prepared(engine).spec
    count = spec.window_frames + 2
    given = crops_of(engine, count)
    windows, joiner, made = lay_windows(count, spec.window_frames, spec.overlap_frames), Joiner(), {}
    for number, window in enumerate(windows):
        answer = engine.generate(same(given, slice(window.first, window.end)))
        following = windows[number + 1] if number + 1 < len(windows) else None
        first, frames = joiner.add(window, answer, following)
        made |= dict(enumerate(frames, first))
    assert sorted(made) == list(range(count))
    if spec.overlap_frames == 0:
        for frame in (0, count - 1):
            alone = engine.generate(same(given, slice(frame, frame + 1)))[0]
            assert np.abs(alone.astype(int) - made[frame]).max() <= 2
    engine.release()
