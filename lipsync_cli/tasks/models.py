"""List, pull, verify and locate models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.hub import download
from lipsync_cli.hub.catalogue import read_catalogue
from lipsync_cli.hub.checksums import model_files
from lipsync_cli.hub.model_folder import ModelFolder, is_present, load_model_folder, verify

PARITY_NAME = "parity.safetensors"

# network → a check that replays the inputs stored in parity.safetensors and compares the outputs: it returns
# the largest absolute difference, and raises WeightsError when that is too large
PARITY_CHECKS: Mapping[str, Callable[[ModelFolder, Path], float]] = {}


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """One named model. present: its files are on this machine.  pinned: its bytes are fixed by lipsync."""

    name: str
    kind: str
    network: str
    embedded: bool
    present: bool
    pinned: bool
    licence: str
    url: str
    description: str
    size_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class PullResult:
    """What a pull brought. path: the folder of the files.  commit: the one they were taken at."""

    source: str
    repo: str
    commit: str | None
    pinned: bool
    licence: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """A model whose files are the right ones. parity: largest difference of the replay, None without one."""

    name: str
    path: Path
    files: tuple[str, ...]
    parity: float | None


def list_models() -> tuple[ModelStatus, ...]:
    """Every named model, in the order of the catalogue."""
    return tuple(
        ModelStatus(
            name=entry.name,
            kind=entry.kind,
            network=entry.network,
            embedded=entry.embedded,
            present=is_present(entry),
            pinned=entry.embedded or entry.commit is not None,
            licence=entry.licence,
            url=entry.url,
            description=entry.description,
            size_bytes=_folder_bytes(entry.folder) if entry.embedded else download.total_bytes(entry.files),
        )
        for entry in read_catalogue().values()
    )


def pull_model(
    source: str, announce: Callable[[download.Published], Any], progress: Progress = SILENT
) -> PullResult:
    """Download a published model. announce: is shown its licence and commit before the first byte.

    Raises: WeightsError, ResourceError, UsageError.
    """
    published = download.resolve(source)
    announce(published)
    files = download.pull(published, progress)
    return PullResult(
        source=source,
        repo=published.repo,
        commit=published.commit,
        pinned=published.pinned,
        licence=published.licence,
        path=next(iter(files.values())).parent,
    )


def verify_model(name: str, progress: Progress = SILENT) -> VerifyResult:
    """Hash the files of a model, and replay its stored inputs where it has some. Raises: WeightsError."""
    folder = verify(name, progress)
    parity = None
    check = PARITY_CHECKS.get(folder.network)
    if check is not None and PARITY_NAME in folder.files:
        parity = check(folder, folder.file(PARITY_NAME))
    return VerifyResult(name=name, path=folder.path, files=tuple(folder.files), parity=parity)


def model_path(name: str) -> Path:
    """The folder of a model that is on this machine. Raises: WeightsError when it is not."""
    return load_model_folder(name).path


def _folder_bytes(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    return sum(file.stat().st_size for file in model_files(folder).values())
