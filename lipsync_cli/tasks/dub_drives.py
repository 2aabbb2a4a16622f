"""Loading what drives each segment of a dub, and telling how an engine gets ready."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import Progress
from lipsync_cli.dubbing.drive import driving_track, expect_speech, face_drive, sound_drive
from lipsync_cli.dubbing.engine import Drive, DubEngine
from lipsync_cli.dubbing.look import Look, take_look
from lipsync_cli.dubbing.plan import PlannedSegment
from lipsync_cli.dubbing.work import WorkFolder
from lipsync_cli.tasks.dub_plan import open_clip
from lipsync_cli.tasks.faces import face_models


class Drives:
    """Loads what drives each segment."""

    def __init__(self, engine: DubEngine, work: WorkFolder, progress: Progress) -> None:
        self._engine, self._work, self._progress = engine, work, progress
        self._looks: dict[Path, Look] = {}

    def check(self, segments: tuple[PlannedSegment, ...]) -> None:
        """Raises: InputError now rather than after an hour's work, when a segment has nothing to go by."""
        for segment in segments:
            if segment.by_video:
                if "video" not in self._engine.spec.drives:
                    raise UsageError(
                        f"the engine {self._engine.spec.name} cannot be driven by video.",
                        "use --engine flashlips-tiny, or give --audio",
                    )
                driving_track(segment.speech, self._look(segment.speech))
            else:
                expect_speech(segment.speech)

    def make(self, segment: PlannedSegment) -> Drive:
        length = segment.speech_end - segment.start
        file = self._work.driver / f"{round(1000 * segment.start)}ms"
        if not segment.by_video:
            return sound_drive(segment.speech, length, file.with_suffix(".f32"))
        look = self._look(segment.speech)
        return face_drive(segment.speech, look, self._engine, length, file.with_suffix(".rgb"))

    def _look(self, path: Path) -> Look:
        if path not in self._looks:
            clip = open_clip(path)
            folder = self._work.look(clip.picture.sha256)
            self._looks[path] = take_look(clip.info, face_models(), folder, self._progress)
        return self._looks[path]


class Telling:
    """Shows what an engine tells as stages of the progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open = ExitStack()
        self._name, self._done = "", 0

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _tell(self, what: str, done: int, total: int) -> None:
        if what != self._name:
            self._open.close()
            self._stage = self._open.enter_context(self._progress.stage(what, total, "steps"))
            self._name, self._done = what, 0
        self._stage.advance(done - self._done)
        self._done = done
        if done >= total:
            self._open.close()
            self._name = ""
