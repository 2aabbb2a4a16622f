"""What drives the mouth: speech as an engine wants it, with its pauses, or the face of another performance."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.audio.load import stream_audio
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
BLOCK_S = 60.0  # of sound, read at once


def expect_speech(path: Path) -> None:
    """Raises: InputError when a file's sound is unusable, empty, or no speech is heard anywhere in it."""
    _speech(path, None)


def sound_drive(path: Path, duration: Fraction, file: Path) -> SoundDrive:
    """The first `duration` seconds of a file's sound, from the start of its timeline; silence where it is shorter.

    file: where the samples are kept, for they may be many; written anew.  Raises: as `expect_speech`.
    """
    samples = new_array(file, np.dtype(np.float32), (math.ceil(duration * SAMPLE_RATE_HZ),))
    speech = _speech(path, samples)
    return SoundDrive(samples, speech_frames(speech, math.ceil(duration * MODEL_RATE)))


def _speech(path: Path, samples: np.ndarray | None) -> np.ndarray:
    """Whether a voice is heard in steps of 10 ms, (s,) bool; `samples` is filled as far as the sound goes."""
    found, silent, written = [], True, 0
    for block in stream_audio(path, sample_rate_hz=SAMPLE_RATE_HZ, block_s=BLOCK_S, start=probe(path).start):
        activity = voice_activity(block.samples, SAMPLE_RATE_HZ)
        found.append(activity.speech)
        silent = silent and activity.is_silent
        if samples is not None:
            part = samples[written : written + len(block.samples)]
            part[:] = block.samples[: len(part)]
            written += len(part)
    if not found:
        raise InputError(f"{path}: the sound is empty (0 s).", "give a file with speech")
    speech = np.concatenate(found)
    if speech.sum() * STEP_S < MIN_SPEECH_S:
        what = "only silence" if silent else "only music or noise"
        raise InputError(f"{path}: no speech is heard, {what}.", "give a file in which somebody speaks")
    return speech


def new_array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros on disk, mapped into memory. A file of that name goes; arrays that map it stay what they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    return np.memmap(file, dtype, "w+", shape=shape)


def speech_frames(speech: np.ndarray, count: int) -> np.ndarray:
    """Whether a voice is heard in each 1/25 s, from steps of 10 ms; short gaps are bridged.  (s,) bool → (count,) bool."""
    reach = round(HOLD_S / STEP_S)
    near = np.convolve(speech, np.ones(2 * reach + 1), "same") > 0
    steps = round(1 / (float(MODEL_RATE) * STEP_S))
    padded = np.zeros(count * steps, bool)
    padded[: min(len(near), count * steps)] = near[: count * steps]
    return np.any(padded.reshape(count, steps), axis=1)


def face_drive(path: Path, look: Look, engine: DubEngine, duration: Fraction, file: Path) -> FaceDrive:
    """The face that a video shows longest, on the 25 Hz grid from its start on, cut out for an engine.

    file: where the crops are kept, for they may be many; written anew.  Raises: InputError when no face is seen.
    """
    track = driving_track(path, look)
    zero = probe(path).start  # what is heard with it counts from there too
    times_s = np.array([float(look.times[n] - zero) for n in track.numbers])
    grid_s = np.arange(math.ceil(duration * MODEL_RATE)) / float(MODEL_RATE)
    rows = np.searchsorted((times_s[1:] + times_s[:-1]) / 2, grid_s, side="right")  # the nearest
    seen = np.abs(times_s[rows] - grid_s) <= 1.5 / float(MODEL_RATE)
    if not seen.any():
        raise InputError(
            f"{path}: no face is seen in its first {float(duration):.1f} s.", "cut the video to it"
        )
    rows, grid_s = rows[seen], grid_s[seen]
    matrices = align_track(engine, track, times_s, np.arange(len(times_s)))
    side_px = engine.spec.side_px
    images = new_array(file, np.dtype(np.uint8), (len(rows), side_px, side_px, 3))
    wanted: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        wanted.setdefault(int(track.numbers[row]), []).append(at)
    last = max(wanted)
    for number, native in enumerate(read_native(path)):
        for at in wanted.get(number, ()):
            images[at] = cut_crop(native.picture, matrices[rows[at]], side_px)
        if number >= last:
            break
    points = landmarks_in_crops(track.landmarks[rows], matrices[rows])
    return FaceDrive(Crops(images, points, grid_s))


def driving_track(path: Path, look: Look) -> FaceTrack:
    """The face seen longest.  Raises: InputError when there is none."""
    if not look.tracks:
        raise InputError(f"{path}: no face is seen.", "give a video of one person speaking")
    return max(look.tracks, key=lambda track: len(track.numbers))
