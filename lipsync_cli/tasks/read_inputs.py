"""Which clips a batch reads: files, folders, patterns and manifests; a shard of them; names for their records."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.tasks.prepare import VIDEO_SUFFIXES

MANIFEST_SUFFIXES = {".jsonl", ".txt", ".csv"}
COLUMNS = ("clip", "path", "source", "picture")  # under which a manifest may name its clips


def find_inputs(arguments: Iterable[str]) -> list[Path]:
    """Clips in order, each once. A file that does not exist stays, and is an error of its own when it is read.

    Manifests: .txt with a path a line, .jsonl or .csv with a column `clip`, `path`, `source` or `picture`; paths
    are relative to the manifest.
    Raises: InputError for a folder, pattern or manifest without clips, or a manifest that is malformed.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        found |= dict.fromkeys(_clips_of(argument))
    return list(found)


def _clips_of(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        videos = sorted(
            p
            for p in path.rglob("*")
            if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".") and not p.is_dir()
        )
        return _some(videos, f"{path}: no video in this folder.", f"ls '{path}'")
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        return _some(_read_manifest(path), f"{path}: the manifest names no clip.", f"cat '{path}'")
    if not path.exists() and glob.has_magic(argument):
        matches = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]
        return _some(matches, f"{argument}: nothing matches this pattern.", "ls")
    return [path]


def _some(clips: list[Path], message: str, hint: str) -> list[Path]:
    if not clips:
        raise InputError(message, hint)
    return clips


def _read_manifest(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the manifest cannot be read.", f"ls -l '{path}'") from error
    if path.suffix.lower() == ".txt":
        names = [line.strip() for line in lines if line.strip()]
    elif path.suffix.lower() == ".csv":
        names = [_named(row, path, number) for number, row in enumerate(csv.DictReader(lines), 2)]
    else:
        names = [_named(_row(line, path, n), path, n) for n, line in enumerate(lines, 1) if line.strip()]
    return [path.parent / name for name in names]


def _row(line: str, path: Path, number: int) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}: line {number} is not JSON.", f"sed -n {number}p '{path}'") from error


def _named(row: object, path: Path, number: int) -> str:
    named = (
        [row[c] for c in COLUMNS if isinstance(row.get(c), str) and row[c]] if isinstance(row, dict) else []
    )
    if not named:
        raise InputError(
            f"{path}: line {number} names no clip.", f"use one of the columns {', '.join(COLUMNS)}"
        )
    return named[0]


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` → (2, 8): the second of eight.  Raises: UsageError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"'{text}' is no shard.", "use --shard 1/8 … 8/8")
    return int(match[1]), int(match[2])


def record_names(clips: Sequence[Path]) -> list[str]:
    """A file name for each clip, without suffix: its own; with a hash of its path where several share one."""
    stems = Counter(clip.stem for clip in clips)
    return [
        clip.stem
        if stems[clip.stem] == 1
        else f"{clip.stem}-{hashlib.sha256(str(clip.absolute()).encode()).hexdigest()[:10]}"
        for clip in clips
    ]
