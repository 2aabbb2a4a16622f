"""The folder beside the result in which a dub keeps what is finished, so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.output import atomic_path

_JOB = "job.json"


class WorkFolder:
    """`<out>.partial/`: looks (of a source, whatever is done with it) and pieces (of one job exactly)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def beside(out: Path) -> WorkFolder:
        """The folder for a result.  Raises: UsageError when something else has its name."""
        path = out.with_name(f"{out.name}.partial")
        if path.exists() and not _is_ours(path):
            raise UsageError(
                f"{path}: is in the way; it is not from an unfinished dub.", f"mv '{path}' elsewhere"
            )
        return WorkFolder(path)

    def start(self, job: Mapping[str, object]) -> None:
        """Make the folder, or keep it if what is in it belongs to the same job; pieces of another are thrown away."""
        self.path.mkdir(exist_ok=True)
        written = json.dumps(job, sort_keys=True, indent=1)
        name = self.path / _JOB
        if name.is_file() and name.read_text(encoding="utf-8") != written:
            shutil.rmtree(self.pieces, ignore_errors=True)
        with atomic_path(name) as path:
            path.write_text(written, encoding="utf-8")
        self.pieces.mkdir(exist_ok=True)

    @property
    def pieces(self) -> Path:
        return self.path / "pieces"

    def piece(self, number: int, suffix: str) -> Path:
        """File of a piece; it has its name only once it is complete."""
        return self.pieces / f"{number:05d}{suffix}"

    def look(self, sha256: str, until: Fraction | None = None) -> Path:
        """Folder of the look at a picture with this hash, or at its part before `until`."""
        part = "" if until is None else f"-{float(until):g}s"
        return self.path / f"look-{sha256[:16]}{part}"

    @property
    def has_pieces(self) -> bool:
        """Whether anything is finished."""
        return self.pieces.is_dir() and any(self.pieces.iterdir())

    @property
    def driver(self) -> Path:
        """Folder for the crops of a driving video."""
        return self.path / "driver"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    names = [child.name for child in path.iterdir()] if path.is_dir() else [""]
    return all(name in (_JOB, "pieces", "driver") or name.startswith("look-") for name in names)
