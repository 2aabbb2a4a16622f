"""Records of a batch in a folder: one JSON file a clip, whole or absent, so that a killed batch goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lipsync_cli.core.config import build_config
from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.tasks.read import ReadOptions
from lipsync_cli.tasks.read_inputs import record_names
from lipsync_cli.tasks.read_text import ReadResult

SCHEMA = "lipsync.read/1"


def as_record(result: ReadResult) -> dict[str, Any]:
    """The JSON of a result, without its schema."""
    return {**asdict(result), "clip": str(result.clip)}


class RecordFolder:
    """Where records lie: `<clip>.read.json`, and beside each what else was asked for.

    A record is only good for the same file, read with the same options.
    """

    def __init__(
        self,
        folder: Path,
        clips: Sequence[Path],
        options: ReadOptions,
        render: Mapping[str, Callable[[ReadResult], str]],
    ) -> None:
        """clips: the whole batch, all shards of it.  render: more files, by suffix such as ".srt"."""
        self.folder, self._options, self._render = folder, options, render
        self._names = dict(zip(clips, record_names(clips), strict=True))

    def open(self, clips: Sequence[Path], *, resume: bool, overwrite: bool) -> None:
        """Make the folder, and see that nothing in it would be lost.

        Raises: UsageError when there are records and neither resume nor overwrite is wanted.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot be made a folder ({error.strerror}).", "choose another with --out"
            ) from error
        there = [clip for clip in clips if self._path(clip).exists()]
        if there and not (resume or overwrite):
            raise UsageError(
                f"{self._path(there[0])}: the record exists, and {len(there) - 1} more.",
                "add --resume to go on, --overwrite to read again, or choose a folder with --out",
            )

    def write(self, result: ReadResult) -> None:
        """What lies beside the record first: a clip with a record is finished."""
        for suffix, render in self._render.items():
            with atomic_path(self._path(result.clip, suffix)) as temporary:
                temporary.write_text(render(result), encoding="utf-8")
        record = {"schema": SCHEMA, **as_record(result), "read_with": self._key(result.clip)}
        with atomic_path(self._path(result.clip)) as temporary:
            temporary.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")

    def _path(self, clip: Path, suffix: str = ".json") -> Path:
        return self.folder / f"{self._names[clip]}.read{suffix}"

    def find(self, clip: Path) -> ReadResult | None:
        """The result on record; None when there is none that is whole, of this file, and read with these options."""
        try:
            record = json.loads(self._path(clip).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not ours, or damaged: read again
            return None
        if record.pop("schema", None) != SCHEMA or record.pop("read_with", None) != self._key(clip):
            return None
        return build_config(record, ReadResult, source=str(self._path(clip)))

    def _key(self, clip: Path) -> dict[str, Any]:
        try:
            stat = os.stat(clip)
            file = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            file = None
        return {"options": asdict(self._options), "file": file}
