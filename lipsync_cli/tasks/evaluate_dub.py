"""`lipsync evaluate dub`: how close an engine comes to mouths that are known, and whether its mouths follow the sound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from lipsync_cli.audio.load import load_audio
from lipsync_cli.audio.voice import voice_activity
from lipsync_cli.core.errors import InputError, LipsyncError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.data.clips import SAMPLES_PER_FRAME, load_clip
from lipsync_cli.data.manifest import MANIFEST_NAME, Clip, ClipChoice, choose_clips, read_manifest
from lipsync_cli.data.prepare import slice_sound
from lipsync_cli.dubbing.compositing import FEATHER, make_patch, mouth_box, new_mouth
from lipsync_cli.dubbing.engine import Crops, Drive, DubEngine, FaceDrive, SoundDrive
from lipsync_cli.faces.align import CropGeometry, cut
from lipsync_cli.faces.crops import FaceCrop
from lipsync_cli.faces.follow import FollowConfig, follow_faces
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.media.frames import sample_frames
from lipsync_cli.media.shots import ShotDetector
from lipsync_cli.metrics.picture import psnr_db, ssim
from lipsync_cli.networks.flashlips.lips import OUTER_LIPS
from lipsync_cli.sync.estimate import LeadConfig, LeadEstimate, estimate_from_band
from lipsync_cli.sync.similarity import banded_similarity
from lipsync_cli.tasks.engines import load_engine
from lipsync_cli.tasks.evaluate import find_videos
from lipsync_cli.tasks.faces import face_models
from lipsync_cli.tasks.lips_and_sound import FRAME_RATE, SAMPLE_RATE_HZ, Embedder
from lipsync_cli.tasks.offset import DEFAULT_MODEL, load_embedder

EVERY_FRAMES = 20  # a frame whose mouth is to be found out
APART_FRAMES = 5  # the engine sees no frame nearer to it than this
BOX_WIDTHS = 1.5  # side of the mouth's box, in widths of the lips
FACE = CropGeometry(size_px=256, margin_px=16)  # what is kept of a video's pictures
FRAME_MS = 40.0


@dataclass(frozen=True, kw_only=True)
class EvaluateDubRequest:
    """clips, keys, last: as in `EvaluateOffsetRequest`.  engine, adapt, device: as in `lipsync dub`.  model: that measures
    sync.  sound: whether to drive by sound at all.
    """

    clips: Path
    keys: tuple[str, ...] = ("*",)
    last: int = 0
    engine: str = "flashlips-tiny"
    adapt: str = "auto"
    device: str = "auto"
    model: str = DEFAULT_MODEL
    sound: bool = True


@dataclass(frozen=True, kw_only=True)
class MouthScores:
    """Of frames whose mouth the engine had to find out from lips numbers alone, in the box around the lips; one that
    follows sound only has the clip's sound, and sees the frames themselves (LatentSync's "reconstruction").

    outside_difference: the largest difference, of 255, where the mask is 0.
    """

    frames: int
    psnr_db: float
    ssim: float
    lpips: float
    outside_difference: int


@dataclass(frozen=True, kw_only=True)
class SyncScores:
    """What our own sync says of a result: see `LeadEstimate`.  score: height of the peak over the curve's median."""

    audio_lead_ms: float
    confidence: float
    score: float


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """source: sync of the clip as it is.  own: driven by its own sound.  late: by its own sound 200 ms late, measured
    against its own sound.  cross: by another clip's sound, measured against that.
    """

    key: str
    mouth: MouthScores
    source: SyncScores | None = None
    own: SyncScores | None = None
    late: SyncScores | None = None
    cross: SyncScores | None = None


@dataclass(frozen=True, kw_only=True)
class DubScores:
    """Means over clips, weighted alike.  own_within_percent, cross_within_percent: results within one frame of sync, of
    those driven by sound.  late_ms: median lead of results driven by late sound; right is 200.
    """

    engine: str
    adapt: str
    clips: tuple[ClipScores, ...]
    psnr_db: float
    ssim: float
    lpips: float
    outside_difference: int
    own_within_percent: float
    cross_within_percent: float
    late_ms: float
    unusable: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Performance:
    """A face and its sound.  pictures: (T, s, s, 3) uint8.  landmarks: (T, 478, 2) in them.  samples: (T·640,)."""

    key: str
    pictures: np.ndarray
    landmarks: np.ndarray
    samples: np.ndarray
    margin_px: int

    @property
    def times_s(self) -> np.ndarray:
        return np.arange(len(self.pictures)) / float(FRAME_RATE)


LATE_MS = 200


def evaluate_dub(request: EvaluateDubRequest, progress: Progress = SILENT) -> DubScores:
    """Hide mouths and have them put back; then drive every clip by its own and by another clip's sound.

    Raises: InputError, UsageError when there is nothing to measure; WeightsError, ResourceError.
    """
    engine = load_engine(request.engine, request.device, {"adapt": request.adapt})
    clips, unusable = read_performances(request, progress)
    embedder = load_embedder(request.model, request.device) if request.sound else None
    rows = []
    with progress.stage("dub", len(clips), "clips") as stage:
        for number, clip in enumerate(clips):
            other = clips[(number + max(1, len(clips) // 2)) % len(clips)]
            try:
                rows.append(_score(engine, clip, other, embedder))
            except InputError as error:
                unusable.append(error.message)
            stage.advance()
    if not rows:
        raise InputError(f"{request.clips}: no clip can be scored: {unusable[0]}", "lipsync offset CLIP")
    return _means(request, rows, tuple(unusable))


def _score(engine: DubEngine, clip: Performance, other: Performance, embedder: Embedder | None) -> ClipScores:
    mouth = score_mouths(engine, clip)
    if embedder is None:
        return ClipScores(key=clip.key, mouth=mouth)
    whole = cut_crops(engine, clip, np.arange(len(clip.pictures)))
    late = np.concatenate([np.zeros(LATE_MS * SAMPLE_RATE_HZ // 1000, np.float32), clip.samples])
    theirs = np.zeros_like(clip.samples)
    shared = min(len(theirs), len(other.samples))
    theirs[:shared] = other.samples[:shared]

    def driven(samples: np.ndarray, against: np.ndarray) -> SyncScores:
        return _sync(_driven(engine, clip, whole, samples[: len(clip.samples)]), clip, against, embedder)

    return ClipScores(
        key=clip.key,
        mouth=mouth,
        source=_sync(clip.pictures, clip, clip.samples, embedder),
        own=driven(clip.samples, clip.samples),
        late=driven(late, clip.samples),
        cross=driven(theirs, theirs) if other is not clip else None,
    )


def score_mouths(engine: DubEngine, clip: Performance) -> MouthScores:
    """Every `EVERY_FRAMES`-th mouth is hidden and found again from frames at least `APART_FRAMES` away."""
    count = len(clip.pictures)
    hidden = np.arange(EVERY_FRAMES // 2, count, EVERY_FRAMES)
    far = (np.abs(np.arange(count)[:, None] - hidden) > APART_FRAMES).all(1)
    known = np.flatnonzero(far)
    if not len(hidden) or len(known) < 4:
        raise InputError(f"{clip.key}: {count} frames are too few.", "give clips of two seconds or more")
    picked = known[
        np.linspace(0, len(known) - 1, min(len(known), engine.spec.reference_frames)).round().astype(int)
    ]
    crops = cut_crops(engine, clip, np.arange(count))
    asked = _some(crops, hidden)
    if "video" in engine.spec.drives:
        engine.prepare(_some(crops, picked), FaceDrive(crops), 0, _nothing)
        made = generate_all(engine, asked)
    else:
        engine.prepare(_some(crops, picked), sound_drive(clip.samples, count), 0, _nothing)
        made = generate_all(engine, crops)[hidden]
    engine.release()
    truth, drawn = cut_boxes(asked.images, asked.landmarks), cut_boxes(made, asked.landmarks)
    matrices = engine.align(clip.landmarks, clip.times_s)
    results = [
        pasted(clip, n, asked.images[row], made[row], matrices[n]) for row, n in enumerate(hidden.tolist())
    ]
    outside = [difference for _, difference in results]
    return MouthScores(
        frames=len(hidden),
        psnr_db=float(psnr_db(drawn, truth).mean()),
        ssim=float(ssim(drawn, truth).mean()),
        lpips=float(_lpips(drawn, truth).mean()),
        outside_difference=max(outside),
    )


def cut_crops(engine: DubEngine, clip: Performance, numbers: np.ndarray) -> Crops:
    """The engine's own crops of some frames."""
    matrices = engine.align(clip.landmarks, clip.times_s)[numbers]
    side = engine.spec.side_px
    images = [cut(clip.pictures[n], matrix, side) for n, matrix in zip(numbers, matrices, strict=True)]
    points = np.einsum("nij,nkj->nki", matrices[:, :, :2], clip.landmarks[numbers]) + matrices[:, None, :, 2]
    return Crops(np.stack(images), points.astype(np.float32), clip.times_s[numbers])


def generate_all(engine: DubEngine, crops: Crops) -> np.ndarray:
    """Window after window, without overlap."""
    size = engine.spec.window_frames
    parts = [
        _some(crops, np.arange(k, min(k + size, len(crops.images))))
        for k in range(0, len(crops.images), size)
    ]
    return np.concatenate([engine.generate(part) for part in parts])


def pasted(
    clip: Performance, number: int, before: np.ndarray, after: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, int]:
    """A picture of the clip with its new mouth, and the largest difference where the mask is 0."""
    side = before.shape[0]
    points = clip.landmarks[number] @ matrix[:, :2].T + matrix[:, 2]
    mask = mouth_mask(points[None], side, FEATHER * side)[0]
    picture = clip.pictures[number].copy()
    new = new_mouth(before, after, mask, matrix)
    box = mouth_box(new, (picture.shape[1], picture.shape[0])) if new else None
    if new is None or box is None:
        return picture, 0
    left, top, right, bottom = box
    part = picture[top:bottom, left:right].astype(np.float32) / 255
    patch = make_patch(new, part, left, top)
    alpha = patch.alpha[..., None]
    blended = np.where(alpha > 0, part + alpha * (patch.rgb - part), part)
    picture[top:bottom, left:right] = np.round(np.clip(blended, 0, 1) * 255).astype(np.uint8)
    untouched = np.ones(picture.shape[:2], bool)
    untouched[top:bottom, left:right] = patch.alpha == 0
    difference = np.abs(picture.astype(int) - clip.pictures[number])[untouched]
    return picture, int(difference.max(initial=0))


def cut_boxes(images: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The mouth's box of each crop, all of one size: a square about the lips.  (N, S, S, 3) → (N, b, b, 3)."""
    lips = landmarks[:, list(OUTER_LIPS)]
    side = round(BOX_WIDTHS * float(np.median(np.ptp(lips[..., 0], axis=1))))
    side = min(max(side, 32), images.shape[1])
    middle = (lips.min(1) + lips.max(1)) / 2
    starts = np.clip(np.round(middle - side / 2).astype(int), 0, images.shape[1] - side)
    return np.stack([image[y : y + side, x : x + side] for image, (x, y) in zip(images, starts, strict=True)])


def _lpips(pictures: np.ndarray, truth: np.ndarray) -> np.ndarray:
    import torch

    from lipsync_cli.networks.blocks.lpips import load_lpips

    judge = load_lpips(load_model_folder("lpips-alex"))
    pair = [torch.from_numpy(p).permute(0, 3, 1, 2).float() / 127.5 - 1 for p in (pictures, truth)]
    with torch.inference_mode():
        return judge(*pair).numpy()


def _driven(engine: DubEngine, clip: Performance, crops: Crops, samples: np.ndarray) -> np.ndarray:
    """The clip's pictures with mouths that follow a sound."""
    count = len(crops.images)
    picked = np.linspace(0, count - 1, min(count, engine.spec.reference_frames)).round().astype(int)
    engine.prepare(_some(crops, picked), sound_drive(samples, count), 0, _nothing)
    made = generate_all(engine, crops)
    engine.release()
    matrices = engine.align(clip.landmarks, clip.times_s)
    return np.stack([pasted(clip, n, crops.images[n], made[n], matrices[n])[0] for n in range(count)])


def sound_drive(samples: np.ndarray, count: int) -> Drive:
    """What `count` frames are driven by."""
    voice = voice_activity(samples, SAMPLE_RATE_HZ)
    at = np.minimum((np.arange(count) / float(FRAME_RATE) / voice.step_s).astype(int), len(voice.speech) - 1)
    return SoundDrive(samples.astype(np.float32), voice.speech[at])


def _sync(pictures: np.ndarray, clip: Performance, samples: np.ndarray, embedder: Embedder) -> SyncScores:
    estimate = measure(pictures, clip.margin_px, samples, embedder)
    return SyncScores(
        audio_lead_ms=estimate.audio_lead_ms, confidence=estimate.confidence, score=estimate.score
    )


def measure(pictures: np.ndarray, margin_px: int, samples: np.ndarray, embedder: Embedder) -> LeadEstimate:
    """How far a sound is ahead of the lips of aligned face crops."""
    inner = slice(margin_px, pictures.shape[1] - margin_px)
    size = (embedder.crop_px, embedder.crop_px)
    faces = [cv2.resize(picture[inner, inner], size, interpolation=cv2.INTER_AREA) for picture in pictures]
    vocal = embedder.comparable(embedder.embed_pictures(faces))
    audio = embedder.comparable(embedder.embed_sound(samples))
    config = LeadConfig(bias_ms=embedder.bias_ms, systematic_ms=embedder.systematic_ms)
    band = banded_similarity(
        vocal,
        audio,
        audio_rate=embedder.audio_rate,
        max_lead_ms=config.max_lead_ms,
        vocal_valid=np.ones(len(vocal), bool),
        audio_valid=np.ones(len(audio), bool),
    )
    return estimate_from_band(band, config=config)


def read_performances(request: EvaluateDubRequest, progress: Progress) -> tuple[list[Performance], list[str]]:
    """Every clip that can be used, and why others cannot."""
    prepared = request.clips.suffix == ".jsonl" or (request.clips / MANIFEST_NAME).is_file()
    known = read_manifest(request.clips) if prepared else find_videos(request.clips)
    last = {clip.subject: request.last for clip in known} if request.last else {}
    chosen = choose_clips(known, ClipChoice(keys=request.keys, keep_last=last))
    folder = request.clips if request.clips.is_dir() else request.clips.parent
    found, unusable = [], []
    with progress.stage("read", len(chosen), "clips") as stage:
        for clip in chosen:
            try:
                found.append(_prepared(folder, clip) if prepared else _filmed(clip))
            except LipsyncError as error:
                unusable.append(error.message)
            stage.advance()
    if not found:
        raise InputError(f"{request.clips}: no clip can be used: {unusable[0]}", "lipsync offset CLIP")
    return found, unusable


def _prepared(folder: Path, clip: Clip) -> Performance:
    data = load_clip(folder, clip, grey=False)
    if data.landmarks is None:
        raise InputError(f"{clip.key}: prepared without landmarks.", "lipsync prepare FOOTAGE OUT")
    margin = round(data.frames.shape[1] / 18)  # `PrepareConfig.geometry`: 8 of 144
    return Performance(clip.key, data.frames, data.landmarks, data.samples, margin)


def _filmed(clip: Clip) -> Performance:
    crops = max(_faces(Path(clip.source)), key=len, default=[])
    if len(crops) < EVERY_FRAMES:
        raise InputError(f"{clip.source}: no face is seen for long enough.", "lipsync offset CLIP")
    points = [crop.landmarks @ crop.to_crop[:, :2].T + crop.to_crop[:, 2] for crop in crops]
    sound = load_audio(Path(clip.source), sample_rate_hz=SAMPLE_RATE_HZ)
    samples = slice_sound(sound, crops[0].time, len(crops) * SAMPLES_PER_FRAME)
    pictures = np.stack([crop.image for crop in crops])
    return Performance(clip.key, pictures, np.stack(points).astype(np.float32), samples, FACE.margin_px)


def _faces(path: Path) -> Iterator[list[FaceCrop]]:
    """Unbroken stretches of faces, on the 25 Hz grid."""
    frames = sample_frames(path, rate=FRAME_RATE)
    follow = FollowConfig(geometry=FACE, mesh_every=1)
    runs: dict[int, list[FaceCrop]] = {}
    for crop in follow_faces(frames, ShotDetector().is_cut, face_models(), follow):
        run = runs.setdefault(crop.track_id, [])
        if run and crop.time - run[-1].time > Fraction(1) / FRAME_RATE:
            yield runs.pop(crop.track_id)
            run = runs.setdefault(crop.track_id, [])
        run.append(crop)
    yield from runs.values()


def _some(crops: Crops, numbers: np.ndarray) -> Crops:
    return Crops(crops.images[numbers], crops.landmarks[numbers], crops.times_s[numbers])


def _nothing(doing: str, done: int, of: int) -> None:
    """Progress is told by clip."""


def _means(request: EvaluateDubRequest, rows: list[ClipScores], unusable: tuple[str, ...]) -> DubScores:
    def mean(name: str) -> float:
        return float(np.mean([getattr(row.mouth, name) for row in rows]))

    late = [row.late.audio_lead_ms for row in rows if row.late]
    return DubScores(
        engine=request.engine,
        adapt=request.adapt,
        clips=tuple(rows),
        psnr_db=mean("psnr_db"),
        ssim=mean("ssim"),
        lpips=mean("lpips"),
        outside_difference=max(row.mouth.outside_difference for row in rows),
        own_within_percent=_within([row.own for row in rows]),
        cross_within_percent=_within([row.cross for row in rows]),
        late_ms=float(np.nanmedian(late)) if late else math.nan,
        unusable=unusable,
    )


def _within(scores: list[SyncScores | None]) -> float:
    leads = np.array([score.audio_lead_ms for score in scores if score])
    return 100 * float((np.abs(leads) <= FRAME_MS).mean()) if len(leads) else math.nan
