"""A correction as data, for editors who apply it themselves: a CMX 3600 edit list and a plain dict."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from lipsync_cli.media.probe import MediaInfo


def correction_dict(info: MediaInfo, delay: Fraction, tempo: Fraction = Fraction(1)) -> dict[str, Any]:
    """JSON-ready. delay: seconds, > 0 = the sound has to come later; tempo: > 1 = it has to play faster."""
    rate = info.video[0].rate if info.video else None
    return {
        "schema": "lipsync.correction/1",
        "file": info.path.name,
        "suggested_audio_delay_ms": float(delay * 1000),
        "suggested_audio_delay_s": str(delay),
        "suggested_audio_delay_samples": [round(delay * track.sample_rate_hz) for track in info.audio],
        "suggested_audio_delay_frames": float(delay * rate) if rate else None,
        "suggested_audio_tempo": str(tempo),
        "sample_rates_hz": [track.sample_rate_hz for track in info.audio],
        "frame_rate": str(rate) if rate else None,
    }


def correction_edl(info: MediaInfo, delay: Fraction, *, title: str | None = None) -> str:
    """CMX 3600: the picture from its start, and sound channels 1 and 2 moved by `delay` seconds.

    EDL timecode counts whole frames (non-drop, the nearest whole rate), so the exact delay stands in a
    comment.
    Raises: ValueError without picture.
    """
    if not info.video:
        raise ValueError("an edit list needs a picture")
    rate = info.video[0].rate
    length = max(1, round(info.duration * rate))
    shift = round(delay * rate)
    kept = max(0, length - abs(shift))
    base = round(rate) * 3600  # programmes start at one hour
    source_in, record_in = max(0, -shift), base + max(0, shift)
    fps = round(rate)
    rows = [
        f"TITLE: {title or info.path.stem}",
        "FCM: NON-DROP FRAME",
        _event(1, "V", 0, length, base, fps),
        f"* FROM CLIP NAME: {info.path.name}",
    ]
    if kept:
        rows += [_event(2, "AA", source_in, kept, record_in, fps), f"* FROM CLIP NAME: {info.path.name}"]
    rows.append(f"* EXACT AUDIO DELAY: {float(delay * 1000):+.3f} MS ({shift:+d} FRAMES AT {rate})")
    return "\n".join(rows) + "\n"


def _event(number: int, channels: str, source_in: int, length: int, record_in: int, fps: int) -> str:
    times = (source_in, source_in + length, record_in, record_in + length)
    return f"{number:03d}  AX       {channels:<5} C        " + " ".join(
        _timecode(time, fps) for time in times
    )


def _timecode(frames: int, fps: int) -> str:
    seconds, frame = divmod(frames, fps)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}"
