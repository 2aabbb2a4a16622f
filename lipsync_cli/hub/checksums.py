"""SHA-256 of files, and the `SHA256SUMS` list of a model folder (the format of `sha256sum`)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.core.progress import SILENT, Progress

SUMS_NAME, CARD_NAME = "SHA256SUMS", "README.md"
CHUNK_BYTES = 1 << 20


def sha256_of(path: Path, progress: Progress = SILENT) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits; progress counts MiB."""
    digest = hashlib.sha256()
    size_bytes = path.stat().st_size
    with (
        path.open("rb") as file,
        progress.stage(f"hash {path.name}", -(-size_bytes // CHUNK_BYTES), "MiB") as stage,
    ):
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            stage.advance()
    return digest.hexdigest()


def read_sums(folder: Path) -> dict[str, str]:
    """File name → SHA-256 as the folder lists them; empty when it has no list."""
    path = folder / SUMS_NAME
    if not path.is_file():
        return {}
    sums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    return sums


def model_files(folder: Path) -> dict[str, Path]:
    """File name → path of what makes the model: all but the card, which may be rewritten, and the list."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    return {path.name: path for path in files if path.name not in (SUMS_NAME, CARD_NAME)}


def write_sums(folder: Path) -> None:
    """List the hash of every file that makes the model."""
    lines = [f"{sha256_of(path)}  {name}\n" for name, path in model_files(folder).items()]
    (folder / SUMS_NAME).write_text("".join(lines), encoding="utf-8")


def check_sum(path: Path, expected: str, *, hint: str, progress: Progress = SILENT) -> None:
    """Hold a file to its SHA-256. hint: the command that repairs it.

    Raises: WeightsError when it is missing or differs.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: the file is missing.", hint)
    found = sha256_of(path, progress)
    if found != expected:
        raise WeightsError(
            f"{path}: wrong checksum: SHA-256 is {found[:12]}…, expected {expected[:12]}….", hint
        )
