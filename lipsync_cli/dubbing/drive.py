"""What drives the mouth: speech as an engine wants it, with its pauses, or the face of another performance."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.audio.load import load_audio
from lipsync_cli.audio.voice import STEP_S, voice_activity
from lipsync_cli.core.errors import InputError
from lipsync_cli.dubbing.cutting import cut_crop
from lipsync_cli.dubbing.engine import MODEL_RATE, SAMPLE_RATE_HZ, Crops, DubEngine, FaceDrive, SoundDrive
from lipsync_cli.dubbing.look import FaceTrack, Look
from lipsync_cli.dubbing.references import align_track, landmarks_in_crops
from lipsync_cli.media.native import read_native
from lipsync_cli.media.probe import probe

HOLD_S = 0.12  # a mouth does not shut in a shorter gap of the voice, nor before its last sound has died away
MIN_SPEECH_S = 0.2


def sound_drive(path: Path, duration: Fraction) -> SoundDrive:
    """The first `duration` seconds of a file's sound, from the start of its timeline; silence where it is shorter.

    Raises: InputError when it is unusable, empty, or no speech is heard anywhere in it.
    """
    heard = load_audio(path, sample_rate_hz=SAMPLE_RATE_HZ, start=probe(path).start).samples
    if not len(heard):
        raise InputError(f"{path}: the sound is empty (0 s).", "give a file with speech")
    activity = voice_activity(heard, SAMPLE_RATE_HZ)  # of all of it: a voice is told by what is around it
    if activity.speech_s < MIN_SPEECH_S:
        what = "only silence" if activity.is_silent else "only music or noise"
        raise InputError(f"{path}: no speech is heard, {what}.", "give a file in which somebody speaks")
    samples = np.zeros(math.ceil(duration * SAMPLE_RATE_HZ), np.float32)
    heard = heard[: len(samples)]
    samples[: len(heard)] = heard
    return SoundDrive(samples, speech_frames(activity.speech, math.ceil(duration * MODEL_RATE)))


def speech_frames(speech: np.ndarray, count: int) -> np.ndarray:
    """Whether a voice is heard in each 1/25 s, from steps of 10 ms; short gaps are bridged.  (s,) bool → (count,) bool."""
    reach = round(HOLD_S / STEP_S)
    near = np.convolve(speech, np.ones(2 * reach + 1), "same") > 0
    steps = round(1 / (float(MODEL_RATE) * STEP_S))
    padded = np.zeros(count * steps, bool)
    padded[: min(len(near), count * steps)] = near[: count * steps]
    return np.any(padded.reshape(count, steps), axis=1)


def face_drive(path: Path, look: Look, engine: DubEngine, duration: Fraction, folder: Path) -> FaceDrive:
    """The face that a video shows longest, on the 25 Hz grid from its first picture on, cut out for an engine.

    folder: where the crops are kept, for they may be many.  Raises: InputError when no face is seen.
    """
    track = driving_track(path, look)
    zero = look.times[0]
    times_s = np.array([float(look.times[n] - zero) for n in track.numbers])
    grid_s = np.arange(math.ceil(duration * MODEL_RATE)) / float(MODEL_RATE)
    rows = (
        np.abs(times_s[None] - grid_s[:, None]).argmin(1) if len(times_s) < 2 else _nearest(times_s, grid_s)
    )
    seen = np.abs(times_s[rows] - grid_s) <= 1.5 / float(MODEL_RATE)
    if not seen.any():
        raise InputError(
            f"{path}: no face is seen in its first {float(duration):.1f} s.", "cut the video to it"
        )
    rows, grid_s = rows[seen], grid_s[seen]
    matrices = align_track(engine, track, times_s, np.arange(len(times_s)))
    side_px = engine.spec.side_px
    folder.mkdir(parents=True, exist_ok=True)
    images = np.memmap(folder / "driver.rgb", np.uint8, "w+", shape=(len(rows), side_px, side_px, 3))
    wanted: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        wanted.setdefault(int(track.numbers[row]), []).append(at)
    for number, native in enumerate(read_native(path)):
        for at in wanted.get(number, ()):
            images[at] = cut_crop(native.picture, matrices[rows[at]], side_px)
        if number >= max(wanted):
            break
    points = landmarks_in_crops(track.landmarks[rows], matrices[rows])
    return FaceDrive(Crops(images, points, grid_s))


def driving_track(path: Path, look: Look) -> FaceTrack:
    """The face seen longest.  Raises: InputError when there is none."""
    if not look.tracks:
        raise InputError(f"{path}: no face is seen.", "give a video of one person speaking")
    return max(look.tracks, key=lambda track: len(track.numbers))


def _nearest(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    return np.searchsorted((times_s[1:] + times_s[:-1]) / 2, wanted_s, side="right")
