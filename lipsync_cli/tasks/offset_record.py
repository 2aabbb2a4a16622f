"""A measured clip as the plain record that `--json`, RESULTS.jsonl, CSV, plot and report are all made of.

Schema "lipsync.offset/1". Times are seconds of the container's timeline, leads are milliseconds, > 0 = sound EARLY.
Where the measurement is not to be trusted, its lead is null: a number that nobody should use is not given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lipsync_cli.core.errors import LipsyncError
from lipsync_cli.sync.estimate import LeadEstimate
from lipsync_cli.sync.programme import Programme
from lipsync_cli.sync.verdict import Verdict
from lipsync_cli.tasks.offset import FaceLead, OffsetResult

SCHEMA = "lipsync.offset/1"
Record = Mapping[str, Any]


def result_record(result: OffsetResult, settings: Record) -> dict[str, Any]:
    """The record of a measured clip; may hold NaN and arrays. settings: what it was measured with, see `request_key`."""
    return {
        "input": str(result.clip),
        "status": "ok" if result.trusted else "inconclusive",
        "exit_code": 0 if result.trusted else 4,
        "words": result.words,
        **_lead(result.estimate),
        "suggested_audio_delay_ms": _rounded(result.suggested_audio_delay_ms, 2),
        "verdict": _verdict(result.verdict),
        "model": result.model,
        "audio_track": result.audio_track,
        "frame_rate": float(result.frame_rate),
        "start_s": result.start_s,
        "duration_s": result.duration_s,
        "faces": [_face(face) for face in result.faces],
        "curve": _curve(result.estimate),
        "programme": _programme(result.programme),
        **settings,
    }


def error_record(clip: Path, error: LipsyncError, settings: Record) -> dict[str, Any]:
    """The record of a clip that could not be measured."""
    said = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    return {"input": str(clip), "status": "error", **said, **settings}


def recorded_error(record: Record) -> LipsyncError:
    """The error that `error_record` was made from."""
    kinds = {kind.exit_code: kind for kind in LipsyncError.__subclasses__()}
    kind = kinds.get(record["exit_code"], LipsyncError)
    return kind(record["message"], record.get("hint", ""))


def request_key(clip: Path, options: Record) -> dict[str, Any]:
    """What a record is only good for: these options, and the file as it was then. JSON-ready.

    options: as typed, such as model and max_offset_s.
    """
    try:
        stat = os.stat(clip)
        file = {"size_bytes": stat.st_size, "modified_s": round(stat.st_mtime, 3)}
    except OSError:
        file = None
    return {"options": dict(options), "file": file}


def timecode(time_s: float, rate_hz: float) -> str:
    """hh:mm:ss:ff of a time from the clip's first instant, counting whole frames (non-drop)."""
    base = max(1, round(rate_hz))
    seconds, frame = divmod(max(0, round(time_s * rate_hz)), base)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}"


def span(record: Record, face: Record) -> str:
    """From – to, as timecode from the start of the clip."""
    start_s, rate_hz = record["start_s"], record["frame_rate"]
    return " – ".join(timecode(face[key] - start_s, rate_hz) for key in ("start_s", "end_s"))


def programme_words(record: Record) -> list[str]:
    """Lines for people on how the lead moves through a long clip; none for a short one."""
    programme = record.get("programme")
    if programme is None:
        return []
    start, rate = record["start_s"], record["frame_rate"]
    if programme["kind"] == "constant":
        return [f"programme: the same lead throughout, {_signed(programme['pieces'][0]['lead_ms'])}"]
    if programme["kind"] == "drift":
        ppm, error = programme["drift_ppm"], programme["drift_error_ppm"]
        pace = "fast" if ppm > 0 else "slow"
        first, last = (
            programme["intercept_ms"] + ppm * time_s / 1000
            for time_s in (programme["pieces"][0]["start_s"], programme["pieces"][0]["end_s"])
        )
        said = f"{abs(ppm):.0f} ± {2 * error:.0f} ppm {pace}, from {_signed(first)} to {_signed(last)}"
        return [f"programme: the sound drifts, {said}"]
    if programme["kind"] == "pieces":
        jumps = len(programme["breakpoints_s"])
        lines = [f"programme: the lead jumps {'once' if jumps == 1 else f'{jumps} times'}"]
        for piece in programme["pieces"]:
            begin, end = (timecode(piece[key] - start, rate) for key in ("start_s", "end_s"))
            lines.append(f"  {begin} – {end}  {_signed(piece['lead_ms'])} ± {2 * piece['error_ms']:.0f}")
        return lines
    return ["programme: too little of it can be measured to say how the lead moves"]


def _signed(lead_ms: float) -> str:
    side = "" if round(lead_ms) == 0 else " early" if lead_ms > 0 else " late"
    return f"{abs(lead_ms):.0f} ms{side}"


def _lead(estimate: LeadEstimate) -> dict[str, Any]:
    low_high = [_rounded(estimate.interval_low_ms, 2), _rounded(estimate.interval_high_ms, 2)]
    return {
        "audio_lead_ms": _rounded(estimate.audio_lead_ms, 2) if estimate.trusted else None,
        "interval_ms": low_high if estimate.trusted else None,
        "confidence": _rounded(estimate.confidence, 4),
        "score": _rounded(estimate.score, 4),
        "reasons": [{"code": reason.code, "words": reason.words} for reason in estimate.reasons],
    }


def _face(face: FaceLead) -> dict[str, Any]:
    return {
        "face": face.track_id,
        "shot": face.shot,
        "start_s": _rounded(face.start_s, 3),
        "end_s": _rounded(face.end_s, 3),
        "speaking": face.speaking,
        "words": face.words,
        **_lead(face.estimate),
        "box": np.round(face.box, 4),
        "curve": _curve(face.estimate),
    }


def _curve(estimate: LeadEstimate) -> dict[str, Any]:
    return {
        "lead_ms": np.round(estimate.curve_leads_ms, 2),
        "similarity": np.round(estimate.curve.astype(np.float64), 4),
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    tolerance = verdict.tolerance
    return {
        "outcome": verdict.outcome.value,
        "standard": tolerance.name,
        "early_ms": _rounded(tolerance.early_ms, 3),
        "late_ms": _rounded(tolerance.late_ms, 3),
        "words": verdict.words,
    }


def _programme(programme: Programme | None) -> dict[str, Any] | None:
    if programme is None:
        return None
    line = programme.line
    return {
        "kind": programme.kind,
        "drift_ppm": _rounded(line.drift_ppm, 2) if line else None,
        "drift_error_ppm": _rounded(line.drift_error_ppm, 2) if line else None,
        "intercept_ms": _rounded(line.intercept_ms, 2) if line else None,
        "breakpoints_s": [_rounded(time, 3) for time in programme.breakpoints_s],
        "pieces": _moments(programme.pieces),
        "windows": _moments(programme.windows),
    }


def _moments(parts: Iterable[Any]) -> list[dict[str, Any]]:
    return [{key: _rounded(value, 3) for key, value in vars(part).items()} for part in parts]


def _rounded(value: Any, digits: int) -> Any:
    return round(value, digits) if isinstance(value, float) else value
