"""From footage to training data: one aligned face and its sound per clip, and a word on everything that was dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.audio.load import Waveform, load_audio
from lipsync_cli.core.errors import LipsyncError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.data.clips import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, write_landmarks
from lipsync_cli.data.manifest import Clip, read_clip
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.faces.crops import FaceCrop
from lipsync_cli.faces.follow import FaceModels, FollowConfig, follow_faces
from lipsync_cli.media.frames import sample_frames
from lipsync_cli.media.probe import probe, require_audio, require_video
from lipsync_cli.media.shots import ShotDetector
from lipsync_cli.media.write import write_flac, write_video


@dataclass(frozen=True)
class PrepareConfig:
    """What becomes a clip.

    geometry: of the crops, with margin for augmentation.  min_s, max_s: length of a clip; longer faces are split.
    max_yaw_deg: faces turned further are left out.  long_side_px: pictures are shrunk to this before faces are followed.
    """

    geometry: CropGeometry = CropGeometry(size_px=128, margin_px=8)
    min_s: float = 2.0
    max_s: float = 30.0
    max_yaw_deg: float = 50.0
    long_side_px: int = 960


@dataclass(frozen=True)
class Outcome:
    """What became of one file: its clips, and why other parts were dropped ("no face", "2.1 s too short", …)."""

    source: str
    clips: tuple[Clip, ...] = ()
    dropped: tuple[str, ...] = ()


def prepare_file(source: Path, key: str, out: Path, models: FaceModels, config: PrepareConfig) -> Outcome:
    """Cut every face of one file into clips below `out`; unusable files are an outcome, not an error.

    key: "subject/name" of the file.  A finished file leaves `done/<key>.json`, and is not worked on again.
    """
    record = out / "done" / f"{key}.json"
    if record.exists():
        finished = _read_outcome(record)
        if finished.source == str(source):  # a file of the same name may have come between the runs
            return finished
    try:
        outcome = _cut_file(source, key, out, models, config)
    except LipsyncError as error:
        outcome = Outcome(str(source), dropped=(error.message,))
    record.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(asdict(outcome)))
    return outcome


def _read_outcome(record: Path) -> Outcome:
    row = json.loads(record.read_text())
    return Outcome(row["source"], tuple(read_clip(clip) for clip in row["clips"]), tuple(row["dropped"]))


def _cut_file(source: Path, key: str, out: Path, models: FaceModels, config: PrepareConfig) -> Outcome:
    info = probe(source)
    require_video(info)
    require_audio(info)
    frames = sample_frames(source, rate=FRAME_RATE, long_side_px=config.long_side_px, threads=1)
    follow = FollowConfig(geometry=config.geometry, mesh_every=1)
    crops = follow_faces(frames, ShotDetector().is_cut, models, follow)
    sound = load_audio(source, sample_rate_hz=SAMPLE_RATE_HZ)
    clips: list[Clip] = []
    dropped: list[str] = []
    for run in _runs(crops, config):
        fault = _fault(run, config)
        if fault:
            dropped.append(fault)
        else:
            # "~", as "name-1" is the name of other files
            clips.append(_write_clip(run, sound, source, f"{key}~{len(clips)}" if clips else key, out))
    if not clips and not dropped:
        dropped.append("no face")
    return Outcome(str(source), tuple(clips), tuple(dropped))


def _runs(crops: Iterator[FaceCrop], config: PrepareConfig) -> Iterator[list[FaceCrop]]:
    """Unbroken stretches of one face, at most `max_s` long, as each of them ends."""
    open_runs: dict[int, list[FaceCrop]] = {}
    step = 1 / FRAME_RATE
    for crop in crops:
        for track, run in list(open_runs.items()):
            ended = crop.time - run[-1].time > step or (
                track == crop.track_id and len(run) >= config.max_s * FRAME_RATE
            )
            if ended:
                yield open_runs.pop(track)
        open_runs.setdefault(crop.track_id, []).append(crop)
    yield from open_runs.values()


def _fault(run: list[FaceCrop], config: PrepareConfig) -> str:
    length_s = len(run) / float(FRAME_RATE)
    if length_s < config.min_s:
        return f"face at {float(run[0].time):.2f} s: {length_s:.2f} s is too short"
    turned = float(np.median([abs(crop.yaw_deg) for crop in run]))
    if turned > config.max_yaw_deg:
        return f"face at {float(run[0].time):.2f} s: turned by {turned:.0f} degrees"
    return ""


def _write_clip(run: list[FaceCrop], sound: Waveform, source: Path, key: str, out: Path) -> Clip:
    picture, heard, points = (out / "clips" / f"{key}.{kind}" for kind in ("mp4", "flac", "landmarks.npy"))
    picture.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(picture) as temporary:
        write_video(temporary, (crop.image for crop in run), FRAME_RATE)
    with atomic_path(heard) as temporary:
        write_flac(temporary, slice_sound(sound, run[0].time, len(run) * SAMPLES_PER_FRAME), SAMPLE_RATE_HZ)
    with atomic_path(points) as temporary:
        write_landmarks(temporary, np.stack([_in_crop(crop) for crop in run]))
    return Clip(
        key=key,
        subject=key.split("/")[0],
        picture=str(picture.relative_to(out)),
        sound=str(heard.relative_to(out)),
        num_frames=len(run),
        source=str(source),
        start_s=float(run[0].time),
        landmarks=str(points.relative_to(out)),
    )


def _in_crop(crop: FaceCrop) -> np.ndarray:
    return crop.landmarks @ crop.to_crop[:, :2].T + crop.to_crop[:, 2]


def slice_sound(sound: Waveform, start: Fraction, num_samples: int) -> np.ndarray:
    """`num_samples` samples from container time `start` on; silence where the file has no sound."""
    first = round((start - sound.start) * sound.sample_rate_hz)
    out = np.zeros(num_samples, np.float32)
    begin, end = max(0, first), min(len(sound.samples), first + num_samples)
    if end > begin:
        out[begin - first : end - first] = sound.samples[begin:end]
    return out
