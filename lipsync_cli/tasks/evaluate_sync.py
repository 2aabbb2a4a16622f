"""`lipsync evaluate sync`: how well the sound of clips fits their lips, as papers on dubbing state it: LSE-C and LSE-D."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.metrics.sync import MAX_LAG_FRAMES, lip_sync_error
from lipsync_cli.sync.similarity import banded_similarity
from lipsync_cli.tasks.evaluate import FRAME_MS, EvaluateOffsetRequest, SeenClip, read_clips
from lipsync_cli.tasks.lips_and_sound import Embedder
from lipsync_cli.tasks.offset import load_embedder

DEFAULT_MODEL = "stable-syncnet"


@dataclass(frozen=True, kw_only=True)
class EvaluateSyncRequest:
    """clips, keys, last: as in `EvaluateOffsetRequest`.  model: figures of different ones cannot be compared."""

    clips: Path
    keys: tuple[str, ...] = ("*",)
    last: int = 0
    model: str = DEFAULT_MODEL
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class ClipSync:
    """lse_c: median − least of the mean distances at −15…+15 frames, larger is better.  lse_d: the least, smaller is
    better.  audio_lead_ms: where it is; both are blind to it.  accuracy_percent: of StableSyncNet, windows told rightly,
    shown with their own sound and with that of half a clip away; NaN for other networks.
    """

    key: str
    lse_c: float
    lse_d: float
    audio_lead_ms: float
    accuracy_percent: float


@dataclass(frozen=True, kw_only=True)
class SyncTable:
    """Means over clips, weighted alike.  lead_ms: mean |audio_lead_ms|.  unusable: why other clips were left out."""

    model: str
    clips: tuple[ClipSync, ...]
    lse_c: float
    lse_d: float
    lead_ms: float
    accuracy_percent: float
    unusable: tuple[str, ...]


def evaluate_sync(request: EvaluateSyncRequest, progress: Progress = SILENT) -> SyncTable:
    """Raises: InputError, UsageError when there is nothing to measure; WeightsError, ResourceError."""
    embedder = load_embedder(request.model, request.device)
    asked = EvaluateOffsetRequest(
        clips=request.clips, keys=request.keys, last=request.last, model=request.model, device=request.device
    )
    clips, unusable = read_clips(asked, embedder, progress)
    rows = tuple(measure(clip, embedder) for clip in clips)
    return SyncTable(
        model=request.model,
        clips=rows,
        lse_c=_mean([row.lse_c for row in rows]),
        lse_d=_mean([row.lse_d for row in rows]),
        lead_ms=_mean([abs(row.audio_lead_ms) for row in rows]),
        accuracy_percent=_mean([row.accuracy_percent for row in rows]),
        unusable=unusable,
    )


def measure(clip: SeenClip, embedder: Embedder) -> ClipSync:
    """One clip. Distances are those of unit vectors, √(2 − 2·cosine), 0…2."""
    audio = embedder.comparable(embedder.embed_sound(clip.samples))
    reach_ms = MAX_LAG_FRAMES * FRAME_MS
    band = banded_similarity(
        clip.vocal, audio, audio_rate=embedder.audio_rate, max_lead_ms=reach_ms, vocal_valid=clip.seen
    )
    whole = np.isclose(band.leads_ms % FRAME_MS, 0) | np.isclose(band.leads_ms % FRAME_MS, FRAME_MS)
    distances = np.sqrt(np.maximum(2 - 2 * band.values[:, whole], 0))
    seen = np.isfinite(distances).any(0)
    curve = np.full(distances.shape[1], np.nan)
    curve[seen] = np.nanmean(distances[:, seen], 0)
    error = lip_sync_error(curve)
    lead_ms = float(band.leads_ms[whole][int(np.nanargmin(curve))])
    return ClipSync(
        key=clip.key,
        lse_c=error.confidence,
        lse_d=error.distance,
        audio_lead_ms=lead_ms + 0.0,
        accuracy_percent=told_rightly(clip, audio, embedder),
    )


def told_rightly(clip: SeenClip, audio: np.ndarray, embedder: Embedder) -> float:
    """Share of windows, in percent, that StableSyncNet judges rightly, half of them out of sync (LatentSync §3.3)."""
    from lipsync_cli.networks.latentsync.embed import StableSyncNetEmbedder
    from lipsync_cli.networks.latentsync.objective import MATCH

    if not isinstance(embedder, StableSyncNetEmbedder):
        return math.nan
    step = int(embedder.audio_rate * int(FRAME_MS) / 1000)
    heard = audio[::step][: len(clip.vocal)]
    own = (clip.vocal * heard).sum(1)[clip.seen]
    other = (clip.vocal * np.roll(heard, len(heard) // 2, 0)).sum(1)[clip.seen]
    return 100 * float(np.concatenate([own > MATCH, other <= MATCH]).mean())


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
