"""`lipsync evaluate offset`: how right `lipsync offset` is, on clips whose sound is moved by known amounts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.audio.load import load_audio
from lipsync_cli.audio.voice import voice_activity
from lipsync_cli.core.errors import InputError, LipsyncError, UsageError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.data.clips import SAMPLES_PER_FRAME, load_clip
from lipsync_cli.data.manifest import MANIFEST_NAME, Clip, ClipChoice, choose_clips, read_manifest
from lipsync_cli.data.prepare import slice_sound
from lipsync_cli.hub.checksums import write_sums
from lipsync_cli.hub.model_folder import CONFIG_NAME, load_model_folder
from lipsync_cli.sync.estimate import LeadConfig, LeadEstimate, estimate_from_band
from lipsync_cli.sync.reasons import Evidence
from lipsync_cli.sync.similarity import Band, banded_similarity
from lipsync_cli.tasks.faces import face_models
from lipsync_cli.tasks.lips_and_sound import FRAME_RATE, SAMPLE_RATE_HZ, Embedder, embed_faces
from lipsync_cli.tasks.offset import DEFAULT_MODEL, load_embedder

FRAME_MS = 40
SHIFTS_FRAMES = tuple(range(-15, 16))
SUBFRAME_SHIFTS_MS = (0, 10, 20, 30)
MAX_LEAD_MS = 800.0  # the largest shift must not lie at the edge of the search
PLAUSIBLE_MS = (
    120.0  # calibration leaves out clips that read further off than this: those are not measured right
)
MIN_CALIBRATION_CLIPS = 8
PIECE_S = 12.0  # footage that one calibration reading is made of
PAPER_ACCURACY = {1: 52.53, 5: 68.41, 15: 82.27}  # SyncLipMAE on Hallo3, Table 1, %
PAPER_R_PRECISION = (
    40.18,
    61.48,
    73.49,
)  # the same; the paper does not say from which clips the pool is drawn
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".mpg", ".avi", ".webm", ".ts", ".mxf")


@dataclass(frozen=True, kw_only=True)
class EvaluateOffsetRequest:
    """What to measure.

    clips: a folder that `lipsync prepare` made (or its manifest), or a folder of videos, which are then read as
    `lipsync offset` reads them, longest face only.  keys: patterns of "subject/name".  last: only the last n clips of
    each subject, 0 for all.
    """

    clips: Path
    keys: tuple[str, ...] = ("*",)
    last: int = 0
    model: str = DEFAULT_MODEL
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class SubframeRow:
    """shift_ms: applied.  mean_answer_ms: over all clips."""

    shift_ms: int
    mean_answer_ms: float


@dataclass(frozen=True, kw_only=True)
class OffsetScores:
    """Of all clips at all shifts.

    within_percent: answers within one frame of the truth.  mean_error_frames, mean_error_ms: mean |error|.
    inconclusive_percent: answers that `lipsync offset` would not give.  trusted_within_percent: right ones of those it
    would.  subframe: see there; subframe_ordered: the means rise; subframe_error_ms: their mean |error|.
    protocol: the paper's metrics of the unshifted clips, see networks.synclipmae.objective.sync_metrics.
    """

    clips: int
    answers: int
    within_percent: float
    mean_error_frames: float
    mean_error_ms: float
    inconclusive_percent: float
    trusted_within_percent: float
    subframe: tuple[SubframeRow, ...]
    subframe_ordered: bool
    subframe_error_ms: float
    protocol: dict[str, float]
    unusable: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MismatchScores:
    """false_trust_percent: clips with the sound of another one for which a lead was given all the same."""

    clips: int
    false_trust_percent: float
    trusted: tuple[str, ...]
    unusable: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """bias_ms: what clips in sync read, the median.  systematic_ms: standard deviation between pieces of PIECE_S of
    footage beyond what their own intervals explain.  clips, used: how many there were, and how many read plausibly.
    """

    bias_ms: float
    systematic_ms: float
    clips: int
    used: int


@dataclass(frozen=True, eq=False)
class SeenClip:
    """One clip, decoded once.  vocal: (T, D) unit, `seen`: (T,) bool.  samples: (T·640,), from the first frame on."""

    key: str
    subject: str
    vocal: np.ndarray
    seen: np.ndarray
    samples: np.ndarray
    evidence: Evidence


def evaluate_offset(request: EvaluateOffsetRequest, progress: Progress = SILENT) -> OffsetScores:
    """Measure every clip with its sound moved by whole frames and by parts of one.

    The sound is moved in samples and embedded anew each time; material from beyond the clip is missing, and masked.
    Raises: InputError, UsageError when there is nothing to measure; WeightsError, ResourceError.
    """
    from lipsync_cli.networks.synclipmae.objective import sync_metrics

    embedder = load_embedder(request.model, request.device)
    clips, unusable = read_clips(request, embedder, progress)
    config = _config(embedder)
    wanted_ms = [shift * FRAME_MS for shift in SHIFTS_FRAMES]
    shifts_ms = wanted_ms + [shift for shift in SUBFRAME_SHIFTS_MS if shift not in wanted_ms]
    leads = np.zeros((len(clips), len(shifts_ms)))
    trusted = np.zeros(leads.shape, bool)
    with progress.stage("measure", len(clips), "clips") as stage:
        for row, clip in enumerate(clips):
            for column, shift_ms in enumerate(shifts_ms):
                estimate = _measure(clip, clip.samples, shift_ms, embedder, config)
                leads[row, column], trusted[row, column] = estimate.audio_lead_ms, estimate.trusted
            stage.advance()
    whole = slice(0, len(wanted_ms))
    errors = np.abs(leads[:, whole] - wanted_ms)
    errors[~np.isfinite(errors)] = MAX_LEAD_MS
    right, sure = errors <= FRAME_MS, trusted[:, whole]
    subframe = tuple(
        SubframeRow(shift_ms=ms, mean_answer_ms=float(np.nanmean(leads[:, shifts_ms.index(ms)])))
        for ms in SUBFRAME_SHIFTS_MS
    )
    return OffsetScores(
        clips=len(clips),
        answers=errors.size,
        within_percent=100 * float(right.mean()),
        mean_error_frames=float(errors.mean()) / FRAME_MS,
        mean_error_ms=float(errors.mean()),
        inconclusive_percent=100 * float(1 - sure.mean()),
        trusted_within_percent=100 * float(right[sure].mean()) if sure.any() else math.nan,
        subframe=subframe,
        subframe_ordered=bool(np.all(np.diff([row.mean_answer_ms for row in subframe]) > 0)),
        subframe_error_ms=float(np.mean([abs(row.mean_answer_ms - row.shift_ms) for row in subframe])),
        protocol=sync_metrics([clip.vocal for clip in clips], [_per_frame(clip, embedder) for clip in clips]),
        unusable=unusable,
    )


def evaluate_mismatched(request: EvaluateOffsetRequest, progress: Progress = SILENT) -> MismatchScores:
    """How often a lead is given for lips and sound that do not belong together.

    Raises: as `evaluate_offset`; UsageError when no subject has two clips.
    """
    embedder = load_embedder(request.model, request.device)
    clips, unusable = read_clips(request, embedder, progress)
    pairs = list(_mismatched(clips))
    if not pairs:
        raise UsageError("no subject has two clips to exchange the sound of.", "--keys 's1/*'")
    trusted = []
    for clip, other in pairs:
        samples = np.zeros_like(clip.samples)
        shared = min(len(samples), len(other.samples))
        samples[:shared] = other.samples[:shared]
        heard = replace(clip, evidence=_heard(clip.evidence, samples))
        if _measure(heard, samples, 0, embedder, _config(embedder)).trusted:
            trusted.append(f"{clip.key} with the sound of {other.key}")
    return MismatchScores(
        clips=len(pairs),
        false_trust_percent=100 * len(trusted) / len(pairs),
        trusted=tuple(trusted),
        unusable=unusable,
    )


def calibrate(request: EvaluateOffsetRequest, progress: Progress = SILENT) -> Calibration:
    """Find what clips in sync read, and write it into the model folder that `request.model` names.

    Raises: as `evaluate_offset`; UsageError when fewer than 8 clips read plausibly.
    """
    embedder = load_embedder(request.model, request.device)
    clips, _ = read_clips(request, embedder, progress)
    config = replace(_config(embedder), bias_ms=0.0, systematic_ms=0.0)
    bands = [_band(clip, clip.samples, 0, embedder, config) for clip in clips]
    leads = [estimate_from_band(band, config=config).audio_lead_ms for band in bands]
    plausible = [(lead, band) for lead, band in zip(leads, bands, strict=True) if abs(lead) <= PLAUSIBLE_MS]
    if len(plausible) < MIN_CALIBRATION_CLIPS:
        raise UsageError(
            f"only {len(plausible)} clips read within {PLAUSIBLE_MS:.0f} ms of sync.",
            "give more clips: --last 50",
        )
    pieces = _pieces([band for _, band in plausible])
    bias_ms = float(np.median([lead for lead, _ in plausible]))
    systematic_ms = spread_between([estimate_from_band(piece, config=config) for piece in pieces])
    result = Calibration(bias_ms=bias_ms, systematic_ms=systematic_ms, clips=len(clips), used=len(plausible))
    _store(load_model_folder(request.model).path, result)
    return result


def _pieces(bands: Sequence[Band]) -> list[Band]:
    """Clips in a row joined to pieces of PIECE_S: what a short clip happens to say is no error of the network's."""
    count = math.ceil(PIECE_S * FRAME_RATE / np.mean([len(band.values) for band in bands]))
    starts = range(0, max(1, len(bands) - count + 1), count)
    return [
        replace(bands[0], values=np.concatenate([b.values for b in bands[i : i + count]])) for i in starts
    ]


def spread_between(estimates: Sequence[LeadEstimate]) -> float:
    """Standard deviation, ms, of estimates of what is in sync, beyond what their own intervals explain."""
    leads = np.array([one.audio_lead_ms for one in estimates])
    own = np.array([(one.interval_high_ms - one.interval_low_ms) / (2 * 1.96) for one in estimates])
    total = float(leads.var(ddof=1)) if len(leads) > 1 else 0.0
    return math.sqrt(max(0.0, total - float(np.mean(own**2))))


def _store(folder: Path, found: Calibration) -> None:
    path = folder / CONFIG_NAME
    described = json.loads(path.read_text(encoding="utf-8"))
    values = {"bias_ms": round(found.bias_ms, 2), "systematic_ms": round(found.systematic_ms, 2)}
    described["preprocess"] = {**described.get("preprocess", {}), "calibration": values}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    write_sums(folder)


def _config(embedder: Embedder) -> LeadConfig:
    return LeadConfig(max_lead_ms=MAX_LEAD_MS, bias_ms=embedder.bias_ms, systematic_ms=embedder.systematic_ms)


def shift_sound(samples: np.ndarray, lead_ms: int) -> tuple[np.ndarray, slice]:
    """The sound earlier by lead_ms, silence where it is missing, and which samples are its own."""
    shift = lead_ms * SAMPLE_RATE_HZ // 1000
    kept = slice(max(0, -shift), max(0, len(samples) - max(0, shift)))
    out = np.zeros_like(samples)
    out[kept] = samples[kept.start + shift : kept.stop + shift]
    return out, kept


def _measure(
    clip: SeenClip, samples: np.ndarray, lead_ms: int, embedder: Embedder, config: LeadConfig
) -> LeadEstimate:
    band = _band(clip, samples, lead_ms, embedder, config)
    return estimate_from_band(band, evidence=clip.evidence, config=config)


def _band(clip: SeenClip, samples: np.ndarray, lead_ms: int, embedder: Embedder, config: LeadConfig) -> Band:
    """Similarities of a clip's lips with a sound moved by lead_ms."""
    moved, kept = shift_sound(samples, lead_ms)
    made = embedder.embed_sound(moved)
    rate = int(embedder.audio_rate)
    valid = np.zeros(len(made), bool)
    valid[-(-kept.start * rate // SAMPLE_RATE_HZ) : kept.stop * rate // SAMPLE_RATE_HZ] = True
    audio = np.zeros(made.shape, np.float32)
    audio[valid] = embedder.comparable(made[valid])
    return banded_similarity(
        clip.vocal,
        audio,
        audio_rate=embedder.audio_rate,
        max_lead_ms=config.max_lead_ms,
        vocal_valid=clip.seen,
        audio_valid=valid,
    )


def _per_frame(clip: SeenClip, embedder: Embedder) -> np.ndarray:
    """Audio tokens at the frames' times: (T, D)."""
    tokens = embedder.comparable(embedder.embed_sound(clip.samples))
    return tokens[:: int(embedder.audio_rate / FRAME_RATE)][: len(clip.vocal)]


def _mismatched(clips: list[SeenClip]) -> Iterator[tuple[SeenClip, SeenClip]]:
    """Each clip with the one half a round further among its subject's."""
    for subject in sorted({clip.subject for clip in clips}):
        own = [clip for clip in clips if clip.subject == subject]
        for index, clip in enumerate(own if len(own) > 1 else []):
            yield clip, own[(index + len(own) // 2) % len(own)]


def read_clips(
    request: EvaluateOffsetRequest, embedder: Embedder, progress: Progress
) -> tuple[list[SeenClip], tuple[str, ...]]:
    """Every clip that can be used, and why others cannot."""
    if request.clips.is_dir() and not os.access(request.clips, os.R_OK | os.X_OK):
        raise InputError(f"{request.clips}: the folder cannot be read.", f"ls -ld '{request.clips}'")
    prepared = request.clips.suffix == ".jsonl" or (request.clips / MANIFEST_NAME).is_file()
    known = read_manifest(request.clips) if prepared else find_videos(request.clips)
    last = {clip.subject: request.last for clip in known} if request.last else {}
    chosen = choose_clips(known, ClipChoice(keys=request.keys, keep_last=last))
    folder = request.clips if request.clips.is_dir() else request.clips.parent
    source = face_models()
    found, unusable = [], []
    with progress.stage("read", len(chosen), "clips") as stage:
        for clip in chosen:
            try:
                found.append(
                    _prepared(folder, clip, embedder) if prepared else _filmed(clip, source, embedder)
                )
            except LipsyncError as error:
                unusable.append(error.message)
            stage.advance()
    if not found:
        raise InputError(
            f"{request.clips}: no clip can be used: {unusable[0]}", "look at one: lipsync offset CLIP"
        )
    return found, tuple(unusable)


def find_videos(folder: Path) -> list[Clip]:
    """The videos of a folder as a manifest would list them: "subject/name" from where they lie."""
    if not folder.is_dir():
        raise InputError(f"{folder}: neither a folder nor a manifest.", f"ls '{folder.parent}'")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no videos.", f"ls '{folder}'")
    names = {path: path.relative_to(folder).with_suffix("").as_posix() for path in paths}
    return [
        Clip(
            key=name,
            subject=name.rpartition("/")[0],
            picture="",
            sound="",
            num_frames=0,
            source=str(path),
            start_s=0.0,
        )
        for path, name in names.items()
    ]


def _prepared(folder: Path, clip: Clip, embedder: Embedder) -> SeenClip:
    data = load_clip(folder, clip, grey=False)
    margin = (data.frames.shape[1] - embedder.crop_px) // 2
    inner = slice(margin, margin + embedder.crop_px)
    vocal = embedder.comparable(embedder.embed_pictures(list(data.frames[:, inner, inner])))
    evidence = _heard(Evidence(), data.samples)
    return SeenClip(clip.key, clip.subject, vocal, np.ones(len(vocal), bool), data.samples, evidence)


def _filmed(clip: Clip, source, embedder: Embedder) -> SeenClip:
    path = Path(clip.source)
    faces = embed_faces(path, source, embedder, SILENT, None)
    if not faces:
        raise InputError(f"{path}: no face was found.")
    face = max(faces, key=lambda one: len(one.numbers))
    first, count = int(face.numbers[0]), int(face.numbers[-1] - face.numbers[0]) + 1
    unit = embedder.comparable(face.tokens)
    vocal, seen = np.zeros((count, unit.shape[1]), np.float32), np.zeros(count, bool)
    vocal[face.numbers - first], seen[face.numbers - first] = unit, True
    sound = load_audio(path, sample_rate_hz=SAMPLE_RATE_HZ)
    samples = slice_sound(sound, Fraction(first) / FRAME_RATE, count * SAMPLES_PER_FRAME)
    evidence = Evidence(mouth_motion=float(face.mouth_open.std()))
    return SeenClip(clip.key, clip.subject, vocal, seen, samples, _heard(evidence, samples))


def _heard(evidence: Evidence, samples: np.ndarray) -> Evidence:
    """What the sound says by itself, added to what the picture says."""
    voice = voice_activity(samples, SAMPLE_RATE_HZ)
    if not voice.sounding.any():
        return replace(evidence, silent_share=1.0, speech_share=0.0, music_share=0.0)
    return replace(
        evidence,
        silent_share=1 - float(voice.sounding.mean()),
        speech_share=float(voice.speech.mean()),
        music_share=float(voice.music[voice.sounding].mean()),
    )
