"""A clip as two streams of tokens: every face's lips on the 25 Hz grid, and the sound, decoded once each."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from lipsync_cli.audio.load import stream_audio
from lipsync_cli.audio.voice import VoiceActivity, voice_activity
from lipsync_cli.core.ahead import read_ahead
from lipsync_cli.core.progress import Progress
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.faces.crops import FaceCrop
from lipsync_cli.faces.follow import FaceSource, FollowConfig, follow_faces
from lipsync_cli.media.frames import Frame, sample_frames
from lipsync_cli.media.shots import ShotDetector

FRAME_RATE = Fraction(25)
SAMPLE_RATE_HZ = 16_000
STEPS_HZ = 100  # voice activity
LONG_SIDE_PX = 960  # faces are followed, and cut out, of pictures no larger than this
MESH_EVERY = 3  # frames; against 2 a fifth less work, and leads that differ by at most 1.7 ms on 16 clips
BATCH_FRAMES = 96  # crops of one face embedded at once
SOUND_BLOCK_S = 20
SOUND_CONTEXT_S = Fraction(2, 5)  # more than a token looks around itself; whole frames


class Embedder(Protocol):
    """A network that makes lips and sound comparable; see networks.synclipmae.embed and networks.latentsync.embed."""

    crop_px: int
    margin_px: int
    context_frames: int
    audio_rate: Fraction
    bias_ms: float
    systematic_ms: float

    def embed_pictures(self, crops: list[np.ndarray]) -> np.ndarray: ...

    def embed_sound(self, samples: np.ndarray) -> np.ndarray: ...

    def comparable(self, tokens: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class FaceTokens:
    """One face through one shot, frame by frame; n frames.

    numbers: (n,) grid numbers, ascending: frame k is at k / 25 s of the container.  tokens: (n, D) float16.
    mouth_open, yaw_deg: (n,).  boxes: (n, 4) xyxy, as shares of the picture's width and height.
    portrait: (S, S, 3) uint8, an aligned crop from the middle of what was seen.
    """

    track_id: int
    shot: int
    numbers: np.ndarray
    tokens: np.ndarray
    mouth_open: np.ndarray
    yaw_deg: np.ndarray
    boxes: np.ndarray
    portrait: np.ndarray


@dataclass(frozen=True, eq=False)
class SoundTokens:
    """The sound of a clip.

    tokens: (m, D) float16, token j centred at start_s + j / rate of the container.
    sounding, speech: (s,) bool, music: (s,) 0…1: what is heard in steps of 10 ms from start_s on; see audio.voice.
    """

    start_s: Fraction
    rate: Fraction
    tokens: np.ndarray
    sounding: np.ndarray
    speech: np.ndarray
    music: np.ndarray


class _FaceLog:
    """Collects one face: embeds its crops in batches, keeps tokens and numbers, lets pictures go."""

    def __init__(self, first: FaceCrop, embedder: Embedder) -> None:
        self._first, self._embedder = first, embedder
        self._waiting: list[np.ndarray] = []  # crops of the present unbroken run, from its context on
        self._embedded = 0  # how many of those have their tokens
        # Kept in a few growing buffers: thousands of small arrays between large passing ones fragment the heap.
        self._numbers = array("q")
        self._rows = array("f")  # mouth_open, yaw_deg and box of each frame
        self._tokens = bytearray()
        self._width = 0
        self._portrait = first.image

    @property
    def shot(self) -> int:
        return self._first.shot

    def add(self, crop: FaceCrop, box: np.ndarray) -> None:
        number = int(crop.time * FRAME_RATE)
        if self._numbers and number != self._numbers[-1] + 1:
            self._end_run()
        self._numbers.append(number)
        self._rows.extend((crop.mouth_open, crop.yaw_deg, *box))
        if len(self._numbers).bit_count() == 1:  # at 1, 2, 4, 8, …: the last one is past the middle
            self._portrait = crop.image
        self._waiting.append(crop.image)
        if len(self._waiting) - self._embedded >= BATCH_FRAMES:
            self._embed(len(self._waiting) - self._embedder.context_frames)

    def _embed(self, until: int) -> None:
        """Make the tokens of waiting crops up to `until`; keep only the context of those to come."""
        tokens = self._embedder.embed_pictures(self._waiting)
        self._width = tokens.shape[1]
        self._tokens += tokens[self._embedded : until].astype(np.float16).tobytes()
        kept = max(0, until - self._embedder.context_frames)
        self._waiting, self._embedded = self._waiting[kept:], until - kept

    def _end_run(self) -> None:
        if len(self._waiting) > self._embedded:
            self._embed(len(self._waiting))
        self._waiting, self._embedded = [], 0

    def close(self) -> FaceTokens:
        """Everything collected."""
        self._end_run()
        rows = np.array(self._rows, np.float32).reshape(-1, 6)
        return FaceTokens(
            track_id=self._first.track_id,
            shot=self.shot,
            numbers=np.array(self._numbers),
            tokens=np.frombuffer(self._tokens, np.float16).reshape(-1, self._width),
            mouth_open=rows[:, 0],
            yaw_deg=rows[:, 1],
            boxes=rows[:, 2:],
            portrait=self._portrait,
        )


def embed_faces(
    path: Path, source: FaceSource, embedder: Embedder, progress: Progress, total: int | None
) -> list[FaceTokens]:
    """Every face of a clip, in order of appearance.  total: frames expected, for the display.

    Decoding, following and embedding each run once over the clip; memory holds tokens, not pictures.
    """
    logs: dict[int, _FaceLog] = {}
    done: list[FaceTokens] = []
    size = np.ones(4)
    with progress.stage(f"faces of {path.name}", total) as stage:

        def counted() -> Iterator[Frame]:
            nonlocal size
            for frame in read_ahead(sample_frames(path, rate=FRAME_RATE, long_side_px=LONG_SIDE_PX), 16):
                height, width = frame.image.shape[:2]
                size = np.array([width, height, width, height])
                stage.advance()
                yield frame

        geometry = CropGeometry(embedder.crop_px, embedder.margin_px)
        config = FollowConfig(geometry=geometry, mesh_every=MESH_EVERY)
        for crop in follow_faces(counted(), ShotDetector().is_cut, source, config):
            for track in [t for t, log in logs.items() if log.shot < crop.shot]:
                done.append(logs.pop(track).close())
            if crop.track_id not in logs:
                logs[crop.track_id] = _FaceLog(crop, embedder)
            logs[crop.track_id].add(crop, crop.box / size)
    done += [log.close() for log in logs.values()]
    return sorted(done, key=lambda face: face.track_id)


def embed_sound(path: Path, track: int, start: Fraction, end: Fraction, embedder: Embedder) -> SoundTokens:
    """The sound between two container times, in blocks with enough context around each to leave no seam.

    start: where the sound begins or later; the first token lies on the first grid time k / 25 s from there on.
    Raises: InputError for a missing track or damaged sound.
    """
    start = Fraction(math.ceil(start * FRAME_RATE)) / FRAME_RATE
    blocks = stream_audio(
        path, track=track, sample_rate_hz=SAMPLE_RATE_HZ, block_s=SOUND_BLOCK_S, start=start, end=end
    )
    context = int(SOUND_CONTEXT_S * SAMPLE_RATE_HZ)
    skip = int(SOUND_CONTEXT_S * embedder.audio_rate)
    tokens, width = bytearray(), 1
    heard: list[VoiceActivity] = []
    counts: list[int] = []
    before = np.zeros(0, np.float32)
    for samples, after in _with_next(block.samples for block in blocks):
        samples = _whole_frames(samples)
        made = embedder.embed_sound(np.concatenate([before, samples, after[:context]]))
        first = skip if len(before) else 0
        count = len(samples) * int(embedder.audio_rate) // SAMPLE_RATE_HZ
        tokens += made[first : first + count].astype(np.float16).tobytes()
        width = made.shape[1]
        heard.append(voice_activity(samples, SAMPLE_RATE_HZ))
        counts.append(len(samples) * STEPS_HZ // SAMPLE_RATE_HZ)
        before = samples[-context:]
    return SoundTokens(
        start_s=start,
        rate=embedder.audio_rate,
        tokens=np.frombuffer(tokens, np.float16).reshape(-1, width),
        sounding=_joined([block.sounding for block in heard], counts, bool),
        speech=_joined([block.speech for block in heard], counts, bool),
        music=_joined([block.music for block in heard], counts, np.float32),
    )


def _joined(blocks: list[np.ndarray], counts: list[int], kind: type) -> np.ndarray:
    """Blocks end to end, each cut to its own time: a block's last step may reach into the next."""
    cut = [block[:count] for block, count in zip(blocks, counts, strict=True)]
    return np.concatenate(cut) if cut else np.zeros(0, kind)


def _with_next(blocks: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every block with the one after it, the last with an empty one."""
    previous: np.ndarray | None = None
    for block in blocks:
        if previous is not None:
            yield previous, block
        previous = block
    if previous is not None:
        yield previous, previous[:0]


def _whole_frames(samples: np.ndarray) -> np.ndarray:
    """The last block, filled with silence to a whole number of 25 Hz frames."""
    return np.pad(samples, (0, -len(samples) % (SAMPLE_RATE_HZ // 25)))
