"""The manifest of prepared clips: JSON Lines, one clip a line, paths relative to the manifest's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.core.output import atomic_path

MANIFEST_NAME = "manifest.jsonl"


@dataclass(frozen=True)
class Clip:
    """One face of one shot, ready to train on.

    key: unique, "subject/name".  subject: who speaks, by folder.  picture: aligned crops, 25 Hz.  sound: 16 kHz mono.
    num_frames: of the picture; the sound is num_frames · 640 samples long, both starting at the same instant.
    source: file it was cut from.  start_s: where in it.  text, words: what is said, with (word, start s, end s) on the
    clip's own time, where known.  landmarks: of the face in every frame (`clips.read_landmarks`), where known.
    """

    key: str
    subject: str
    picture: str
    sound: str
    num_frames: int
    source: str
    start_s: float
    text: str = ""
    words: tuple[tuple[str, float, float], ...] = ()
    landmarks: str = ""


@dataclass(frozen=True)
class ClipChoice:
    """Which clips of a manifest: keys that match a pattern of `keys`, without the last n (by name) of some subjects.

    keys: shell patterns such as "s1/*".  drop_last: subject → how many of its last clips are left out.
    keep_last: subject → only its last n clips are taken.
    """

    keys: tuple[str, ...] = ("*",)
    drop_last: dict[str, int] = field(default_factory=dict)
    keep_last: dict[str, int] = field(default_factory=dict)


def read_manifest(path: Path) -> list[Clip]:
    """Clips by key.  path: the manifest or its folder.  Raises: InputError when missing, empty or malformed."""
    path = path / MANIFEST_NAME if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such manifest.", f"lipsync prepare FOOTAGE '{path.parent}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the manifest cannot be read.", f"ls -ld '{path}'") from error
    clips = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            clips.append(read_clip(row))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: line {number} is not a clip: {error}.", f"sed -n {number}p '{path}'"
            ) from error
    if not clips:
        raise InputError(f"{path}: the manifest is empty.", f"cat '{path.parent / 'report.json'}'")
    return sorted(clips, key=lambda clip: clip.key)


def read_clip(row: dict[str, Any]) -> Clip:
    """A line of the manifest; names we do not know are left out.  Raises: TypeError or ValueError when it is none."""
    known = {f.name: row[f.name] for f in fields(Clip) if f.name in row}
    words = tuple((str(word), float(start), float(end)) for word, start, end in known.pop("words", ()))
    return Clip(**known, words=words)


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write whole or not at all, sorted by key."""
    lines = [json.dumps(asdict(clip)) for clip in sorted(clips, key=lambda clip: clip.key)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def choose_clips(clips: list[Clip], choice: ClipChoice) -> list[Clip]:
    """The clips of a choice, by key.  Raises: UsageError when none is left."""
    chosen = []
    for subject in sorted({clip.subject for clip in clips}):
        own = [clip for clip in clips if clip.subject == subject]
        end = max(0, len(own) - choice.drop_last.get(subject, 0))
        start = max(0, len(own) - choice.keep_last.get(subject, len(own)))
        chosen += own[start:end]
    chosen = [clip for clip in chosen if any(fnmatchcase(clip.key, pattern) for pattern in choice.keys)]
    if not chosen:
        raise UsageError(f"no clip matches {', '.join(choice.keys)}.", "look at the keys in manifest.jsonl")
    return chosen
