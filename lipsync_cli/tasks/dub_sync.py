"""Lips against sound before and after a dub, by the measurement of `lipsync offset`."""

from __future__ import annotations

from pathlib import Path

from lipsync_cli.core.errors import InputError
from lipsync_cli.core.progress import Progress
from lipsync_cli.dubbing.look import Look
from lipsync_cli.media.probe import probe
from lipsync_cli.sync.estimate import words
from lipsync_cli.tasks.dub_faces import lead_of
from lipsync_cli.tasks.dub_result import SyncScore
from lipsync_cli.tasks.offset import OffsetMeter, OffsetRequest, OffsetResult


class SyncCheck:
    """Measures files with one loaded network, the source at most once."""

    def __init__(self, source: Path, device: str, progress: Progress) -> None:
        self._source, self._device, self._progress = source, device, progress
        self._meter: OffsetMeter | None = None
        self._known: dict[Path, OffsetResult | None] = {}

    def source(self) -> OffsetResult | None:
        """The source's faces against its own sound; None when it has no sound, or no face is found there."""
        return self._measure(self._source)

    def before(self, look: Look, chosen: tuple[int, ...]) -> SyncScore | None:
        """Of the chosen face in the source."""
        return self._score(self._source, look, chosen)

    def after(self, result: Path, look: Look, chosen: tuple[int, ...]) -> SyncScore | None:
        """Of the same face in the result."""
        return self._score(result, look, chosen)

    def _measure(self, path: Path) -> OffsetResult | None:
        if path not in self._known:
            self._known[path] = self._measured(path) if probe(path).audio else None
        return self._known[path]

    def _measured(self, path: Path) -> OffsetResult | None:
        self._meter = self._meter or OffsetMeter(device=self._device)
        try:
            return self._meter.measure(OffsetRequest(path), self._progress)
        except (
            InputError
        ):  # the follower of `offset` is a coarser one, and may find no face where the look did
            return None

    def _score(self, path: Path, look: Look, chosen: tuple[int, ...]) -> SyncScore | None:
        result = self._measure(path)
        face = lead_of(result, look, chosen) if result else None
        if result is None or face is None:
            return None
        estimate = face.estimate
        return SyncScore(
            audio_lead_ms=estimate.audio_lead_ms if estimate.trusted else None,
            confidence=estimate.confidence,
            words=words(estimate, result.frame_rate),
        )
