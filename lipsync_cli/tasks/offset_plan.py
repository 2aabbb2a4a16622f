"""What `lipsync offset` would measure, and with what: reads headers, loads no network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lipsync_cli.core.device import resolve_device
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder
from lipsync_cli.media.probe import AudioStream, VideoStream, probe, require_audio, require_video
from lipsync_cli.tasks.lips_and_sound import FRAME_RATE
from lipsync_cli.tasks.offset import OffsetRequest
from lipsync_cli.tasks.offset_batch import check_clip


@dataclass(frozen=True)
class ClipPlan:
    """One clip as it would be measured. pictures: looked at, on the 25 Hz grid."""

    input: Path
    duration_s: float
    pictures: int
    video: VideoStream
    audio: AudioStream


def plan_clip(request: OffsetRequest) -> ClipPlan:
    """Raises: InputError for everything that headers and first frames show to be unusable."""
    check_clip(request.clip)
    info = probe(request.clip)
    video, audio = require_video(info), require_audio(info, request.audio_track)
    pictures = math.ceil(info.duration * FRAME_RATE)
    return ClipPlan(request.clip, float(info.duration), pictures, video, audio)


def plan_model(model: str, device: str) -> tuple[ModelFolder, str]:
    """The model's files, held to their checksums, and the device. Raises: WeightsError, ResourceError, UsageError."""
    chosen = resolve_device(device)
    return load_model_folder(model), str(chosen)
