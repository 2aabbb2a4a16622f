"""`lipsync offset`: how far sound and lips are apart, per face and shot, or an honest "cannot tell"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lipsync_cli.core.device import resolve_device, share_processor
from lipsync_cli.core.errors import InputError, WeightsError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.faces.follow import FaceSource
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder
from lipsync_cli.media.probe import MediaInfo, probe, require_audio, require_video
from lipsync_cli.sync.estimate import LeadConfig, LeadEstimate, estimate_from_band, words
from lipsync_cli.sync.programme import Piece, Programme, WindowLead, describe, measure_windows
from lipsync_cli.sync.reasons import VARIES, Evidence, Reason
from lipsync_cli.sync.similarity import Band, banded_similarity
from lipsync_cli.sync.speaker import SpeakerChoice, choose_speaker
from lipsync_cli.sync.verdict import Tolerance, Verdict, judge
from lipsync_cli.tasks.faces import face_models
from lipsync_cli.tasks.lips_and_sound import (
    FRAME_RATE,
    STEPS_HZ,
    Embedder,
    FaceTokens,
    SoundTokens,
    embed_faces,
    embed_sound,
)

if TYPE_CHECKING:
    import torch

Moment = TypeVar("Moment", Piece, WindowLead)

DEFAULT_MODEL = "synclipmae-tiny"
PROGRAMME_S = 40.0  # clips longer than this are also measured in windows over time
VARIES_MS = 20.0  # a lead that changes more than this over the clip is no one number
PROFILE_DEG = 55.0  # a face turned further shows too little of its lips


@dataclass(frozen=True)
class OffsetRequest:
    """One clip to measure.

    audio_track: counted from 0.  face: track id to measure instead of the speaking one.  max_lead_ms: range, both ways.
    tolerance: standard to judge by, as a function of the picture's frame rate.
    """

    clip: Path
    audio_track: int = 0
    face: int | None = None
    max_lead_ms: float = 600.0
    tolerance: Callable[[Fraction], Tolerance] | None = None


@dataclass(frozen=True, eq=False)
class FaceLead:
    """One face in one shot.

    start_s, end_s: container seconds it is seen between.  speaking: it was chosen as the one heard in its shot.
    box: (4,) median box as shares of the picture, xyxy.  portrait: (S, S, 3) uint8 aligned crop.
    """

    track_id: int
    shot: int
    start_s: float
    end_s: float
    speaking: bool
    estimate: LeadEstimate
    words: str
    box: np.ndarray
    portrait: np.ndarray


@dataclass(frozen=True, eq=False)
class OffsetResult:
    """The answer for one clip.

    estimate: over everything the speaking faces show.  words: one line for people.  suggested_audio_delay_ms: what to
    delay the sound by (negative: advance it), None when the measurement is not to be trusted or the lead varies.
    faces: every face of every shot.  programme: of long clips, how the lead moves over container time.
    frame_rate: of the picture as it is stored.  start_s: container second at which the clip begins.
    model: that measured.
    """

    clip: Path
    model: str
    frame_rate: Fraction
    start_s: float
    duration_s: float
    audio_track: int
    estimate: LeadEstimate
    words: str
    suggested_audio_delay_ms: float | None
    faces: tuple[FaceLead, ...]
    programme: Programme | None
    verdict: Verdict | None

    @property
    def trusted(self) -> bool:
        """Whether there is an answer."""
        return self.estimate.trusted


class OffsetMeter:
    """A loaded model that measures clips, one after another."""

    def __init__(self, model: str = DEFAULT_MODEL, device: str = "auto") -> None:
        """Raises: WeightsError, ResourceError."""
        share_processor()
        self.model = model
        self.embedder = load_embedder(model, device)
        self._faces: FaceSource = face_models()

    def measure(self, request: OffsetRequest, progress: Progress = SILENT) -> OffsetResult:
        """Measure one clip.

        Raises: InputError when it is missing, undecodable, lacks picture or sound, or shows no face.
        """
        info = probe(request.clip)
        video, audio = require_video(info), require_audio(info, request.audio_track)
        faces = embed_faces(
            request.clip, self._faces, self.embedder, progress, math.ceil(info.duration * FRAME_RATE)
        )
        if not faces:
            raise InputError(
                f"{request.clip}: no face was found.",
                "look at the picture: faces smaller than 30 px are not found",
            )
        if request.face is not None:
            faces = _only(faces, request)
        reach = Fraction(math.ceil(request.max_lead_ms / 40) + 1) / FRAME_RATE
        first, last = _span(faces)
        sound = embed_sound(
            request.clip, request.audio_track, max(audio.start, first - reach), last + reach, self.embedder
        )
        config = LeadConfig(
            max_lead_ms=request.max_lead_ms,
            bias_ms=self.embedder.bias_ms,
            systematic_ms=self.embedder.systematic_ms,
        )
        return _result(
            request, info, video.rate, self.model, _Comparison(self.embedder, sound, config), faces
        )


def load_embedder(model: str, device: str) -> Embedder:
    """The network behind a model name.  Raises: WeightsError for weights, ResourceError for the device."""
    folder = load_model_folder(model)
    if folder.network not in EMBEDDERS:
        raise WeightsError(
            f"{model}: a model of '{folder.network}', which compares no lips with sound.",
            "lipsync models list",
        )
    calibration = dict(folder.preprocess.get("calibration", {}))
    return EMBEDDERS[folder.network](folder, resolve_device(device), calibration)


def _synclipmae(folder: ModelFolder, device: torch.device, calibration: dict[str, float]) -> Embedder:
    from lipsync_cli.networks.synclipmae.embed import SyncLipMAEEmbedder
    from lipsync_cli.networks.synclipmae.weights import load_model

    return SyncLipMAEEmbedder(load_model(folder), device, calibration)


def _stable_syncnet(folder: ModelFolder, device: torch.device, calibration: dict[str, float]) -> Embedder:
    from lipsync_cli.networks.latentsync.convert import load_syncnet
    from lipsync_cli.networks.latentsync.embed import StableSyncNetEmbedder

    return StableSyncNetEmbedder(load_syncnet(folder), device, calibration)


EMBEDDERS = {"synclipmae": _synclipmae, "stable-syncnet": _stable_syncnet}  # by the network of a model folder


def _only(faces: list[FaceTokens], request: OffsetRequest) -> list[FaceTokens]:
    chosen = [face for face in faces if face.track_id == request.face]
    if not chosen:
        known = ", ".join(str(face.track_id) for face in faces)
        raise InputError(
            f"{request.clip}: there is no face {request.face}; there are {known}.",
            f"--face {faces[0].track_id}",
        )
    return chosen


def _span(faces: list[FaceTokens]) -> tuple[Fraction, Fraction]:
    """First and end container time of what the faces show."""
    numbers = [int(face.numbers[0]) for face in faces], [int(face.numbers[-1]) for face in faces]
    return Fraction(min(numbers[0])) / FRAME_RATE, Fraction(max(numbers[1]) + 1) / FRAME_RATE


class _Comparison:
    """Compares faces with one sound."""

    def __init__(self, embedder: Embedder, sound: SoundTokens, config: LeadConfig) -> None:
        self.config = config
        self._embedder, self._sound = embedder, sound
        self._audio = embedder.comparable(sound.tokens) if len(sound.tokens) else np.zeros((0, 1), np.float32)

    def band(self, face: FaceTokens) -> Band:
        """Similarities of one face on its own grid, first frame to last; frames it is not seen in are NaN."""
        first, count = int(face.numbers[0]), int(face.numbers[-1] - face.numbers[0]) + 1
        unit = self._embedder.comparable(face.tokens)
        vocal = np.zeros((count, unit.shape[1]), unit.dtype)
        seen = np.zeros(count, bool)
        vocal[face.numbers - first], seen[face.numbers - first] = unit, True
        audio = self._audio if len(self._audio) else np.zeros((0, unit.shape[1]), np.float32)
        return banded_similarity(
            vocal,
            audio,
            audio_rate=self._sound.rate,
            audio_start_s=self._sound.start_s - Fraction(first) / FRAME_RATE,
            max_lead_ms=self.config.max_lead_ms,
            vocal_valid=seen,
        )

    def evidence(self, faces: list[FaceTokens]) -> Evidence:
        """What pictures and sound say by themselves, while these faces are seen."""
        silent, speech, music = self._heard(faces)
        mouth = np.concatenate([face.mouth_open for face in faces])
        yaw = np.concatenate([face.yaw_deg for face in faces])
        return Evidence(
            silent_share=silent,
            speech_share=speech,
            music_share=music,
            mouth_motion=float(mouth.std()),
            profile_share=float((abs(yaw) > PROFILE_DEG).mean()),
        )

    def _heard(self, faces: list[FaceTokens]) -> tuple[float, float, float]:
        """Shares of silence, speech and music while the faces are seen, 0…1."""
        return heard_shares(self._sound, *_span(faces))


def heard_shares(sound: SoundTokens, start: Fraction, end: Fraction) -> tuple[float, float, float]:
    """Shares of silence, speech and music between two container times, 0…1; all silence when there is no sound."""
    first, last = (max(0, int((time - sound.start_s) * STEPS_HZ)) for time in (start, end))
    sounding, speech, music = (steps[first:last] for steps in (sound.sounding, sound.speech, sound.music))
    if not sounding.any():
        return 1.0, 0.0, 0.0
    return 1 - float(sounding.mean()), float(speech.mean()), float(music[sounding].mean())


def _result(
    request: OffsetRequest,
    info: MediaInfo,
    rate: Fraction,
    model: str,
    comparison: _Comparison,
    faces: list[FaceTokens],
) -> OffsetResult:
    bands = {face.track_id: comparison.band(face) for face in faces}
    estimates = {
        face.track_id: estimate_from_band(
            bands[face.track_id], evidence=comparison.evidence([face]), config=comparison.config
        )
        for face in faces
    }
    speaking = _speaking(faces, estimates)
    used = [face for face in faces if face.track_id in speaking] or _longest(faces)
    band, gap_free = _joined([(face, bands[face.track_id]) for face in used])
    overall = estimate_from_band(gap_free, evidence=comparison.evidence(used), config=comparison.config)
    programme = None
    if len(band.values) > PROGRAMME_S * FRAME_RATE:
        programme = describe(measure_windows(band, config=comparison.config), band, comparison.config)
        programme = _on_container_time(programme, float(_span(used)[0]))
        if programme.change_ms > VARIES_MS:
            # doubts about a peak smeared or doubled by the change are its consequence, not news
            overall = replace(overall, reasons=(Reason("varies", VARIES),))
    verdict = None
    if request.tolerance is not None:
        low, high = overall.interval_low_ms, overall.interval_high_ms
        verdict = judge(low, high, request.tolerance(rate), trusted=overall.trusted)
    return OffsetResult(
        clip=request.clip,
        model=model,
        frame_rate=rate,
        start_s=float(info.start),
        duration_s=float(info.duration),
        audio_track=request.audio_track,
        estimate=overall,
        words=words(overall, rate),
        suggested_audio_delay_ms=overall.audio_lead_ms if overall.trusted else None,
        faces=tuple(
            _face_lead(face, estimates[face.track_id], face.track_id in speaking, rate) for face in faces
        ),
        programme=programme,
        verdict=verdict,
    )


def _on_container_time(programme: Programme, start_s: float) -> Programme:
    """The programme of a band whose first frame is at start_s, with that added to all its times."""

    def moved(part: Moment) -> Moment:
        return replace(part, start_s=part.start_s + start_s, end_s=part.end_s + start_s)

    line = programme.line
    if line is not None:
        line = replace(line, intercept_ms=line.intercept_ms - line.drift_ppm * start_s / 1000)
    return replace(
        programme,
        line=line,
        pieces=tuple(moved(piece) for piece in programme.pieces),
        windows=tuple(moved(window) for window in programme.windows),
    )


def _speaking(faces: list[FaceTokens], estimates: dict[int, LeadEstimate]) -> set[int]:
    """The speaking face of every shot that has one."""
    chosen: set[int] = set()
    for shot in {face.shot for face in faces}:
        choice: SpeakerChoice = choose_speaker(
            {f.track_id: estimates[f.track_id] for f in faces if f.shot == shot}
        )
        if choice.track_id is not None:
            chosen.add(choice.track_id)
    return chosen


def _longest(faces: list[FaceTokens]) -> list[FaceTokens]:
    """Where nobody speaks for certain: the face seen longest in each shot, whose reasons then stand for the clip."""
    best: dict[int, FaceTokens] = {}
    for face in faces:
        if face.shot not in best or len(face.numbers) > len(best[face.shot].numbers):
            best[face.shot] = face
    return list(best.values())


def _joined(parts: list[tuple[FaceTokens, Band]]) -> tuple[Band, Band]:
    """The bands of faces that follow each other: on the clip's own time (NaN between), and without what is NaN there."""
    if len(parts) == 1:
        return parts[0][1], parts[0][1]
    start = min(int(face.numbers[0]) for face, _ in parts)
    count = max(int(face.numbers[-1]) for face, _ in parts) + 1 - start
    leads = parts[0][1].leads_ms
    values = np.full((count, len(leads)), np.nan, np.float32)
    for face, band in parts:
        first = int(face.numbers[0]) - start
        rows = values[first : first + len(band.values)]
        rows[:] = np.where(np.isnan(rows), band.values, rows)
    whole = Band(values, leads, parts[0][1].frame_rate)
    return whole, replace(whole, values=values[np.isfinite(values).any(axis=1)])


def _face_lead(face: FaceTokens, estimate: LeadEstimate, speaking: bool, rate: Fraction) -> FaceLead:
    return FaceLead(
        track_id=face.track_id,
        shot=face.shot,
        start_s=float(face.numbers[0] / FRAME_RATE),
        end_s=float((face.numbers[-1] + 1) / FRAME_RATE),
        speaking=speaking,
        estimate=estimate,
        words=words(estimate, rate),
        box=np.median(face.boxes, axis=0),
        portrait=face.portrait,
    )
