"""Writing files so that nothing is half-written, nothing is lost and no input is ever modified."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lipsync_cli.core.errors import InputError, LipsyncError, ResourceError, UsageError


def check_output(path: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse an output that is an input, already exists, or has no folder to live in.

    Raises: UsageError (exit 2).
    """
    for source in inputs:
        if path.exists() and source.exists() and os.path.samefile(path, source):
            raise UsageError(f"{path}: the output is the input.", "choose another name with --out")
    if path.exists() and not overwrite:
        raise UsageError(
            f"{path}: the output exists.", "add --overwrite to replace it, or choose a name with --out"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder does not exist.", f"mkdir -p '{path.parent}'")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on any failure.

    The temporary name keeps the suffix, so that writers can tell the format from it.
    Raises: ResourceError when the disk is full, InputError when the folder cannot be written.
    """
    with _system_errors(path):
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent
        )
        os.close(handle)
    temporary = Path(name)
    try:
        with _system_errors(path):
            yield temporary
            _sync_and_replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_and_replace(temporary: Path, path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)  # mkstemp makes private files; an output is an ordinary one
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except LipsyncError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"{path}: the disk is full.", "free space, or choose another folder with --out"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InputError(
                f"{path}: the folder cannot be written.", "choose another folder with --out"
            ) from error
        raise
