"""Files of published models in the Hugging Face cache: fetch them, find them again, remember which they were.

Nothing is downloaded unless `pull` is called. An entry without a pinned commit is pulled at the newest one,
and what came is written to a lock beside the cache, so that the same bytes are found (and verified) later.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lipsync_cli.core.errors import ResourceError, UsageError, WeightsError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.hub.catalogue import FileEntry, find_entry
from lipsync_cli.hub.checksums import check_sum, sha256_of

HUB_SOURCE = re.compile(r"hf:(?P<repo>[^/@\s]+/[^/@\s]+)@(?P<commit>[0-9a-f]{40})")
LOCK_NAME = "lipsync-lock.json"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Files of one repository at one commit.

    source: how the user names it.  commit: None when nothing fixes it yet.  pinned: fixed by the catalogue or
    the user, not merely by the lock.
    """

    source: str
    repo: str
    commit: str | None
    pinned: bool
    licence: str
    files: tuple[FileEntry, ...]


def describe(source: str) -> Published:
    """What a catalogue name or `hf:org/repo@commit` stands for, from the catalogue and the lock; no network.

    Raises: WeightsError for an unknown name, UsageError for an `hf:` source without a full commit.
    """
    locked = _read_lock().get(source, {})
    lock_files = {name: FileEntry(name=name, **file) for name, file in locked.get("files", {}).items()}
    if source.startswith("hf:"):
        match = HUB_SOURCE.fullmatch(source)
        if not match:
            raise UsageError(
                f"'{source}' is not pinned.", "write hf:org/repo@COMMIT, with all 40 digits of the commit"
            )
        files = tuple(
            lock_files.get(name, FileEntry(name=name)) for name in ("config.json", "model.safetensors")
        )
        licence = locked.get("licence", "see the repository")
        return Published(
            source=source,
            repo=match["repo"],
            commit=match["commit"],
            pinned=True,
            licence=licence,
            files=files,
        )
    entry = find_entry(source)
    if entry.repo is None:
        raise UsageError(
            f"'{source}' is not published: it comes with lipsync.", f"lipsync models path {source}"
        )
    files = tuple(file if file.sha256 else lock_files.get(file.name, file) for file in entry.files)
    commit = entry.commit or locked.get("commit")
    return Published(
        source=source,
        repo=entry.repo,
        commit=commit,
        pinned=entry.commit is not None,
        licence=entry.licence,
        files=files,
    )


def cached_files(published: Published) -> dict[str, Path] | None:
    """File name → path in the cache; None unless every file is there with the size on record."""
    from huggingface_hub import try_to_load_from_cache

    if published.commit is None:
        return None
    found = {}
    for file in published.files:
        path = try_to_load_from_cache(published.repo, file.name, cache_folder(), published.commit)
        if (
            not isinstance(path, str)
            or (file.size_bytes or Path(path).stat().st_size) != Path(path).stat().st_size
        ):
            return None
        found[file.name] = Path(path)
    return found


def resolve(source: str) -> Published:
    """`describe`, with the newest commit where nothing fixes one, and the licence that a repository states.

    Raises: WeightsError when the network, the name or a licence gate stands in the way.
    """
    published = describe(source)
    if published.commit and not source.startswith("hf:"):
        return published
    from huggingface_hub import HfApi

    with _hub_errors(published):
        info = HfApi().model_info(published.repo, revision=published.commit)
    licence = published.licence
    if source.startswith("hf:"):
        licence = (info.card_data or {}).get("license") or "none stated"
    return replace(published, commit=published.commit or info.sha, licence=licence)


def pull(published: Published, progress: Progress = SILENT) -> dict[str, Path]:
    """Download what is not cached yet, verify it, record it in the lock; returns file name → path.

    published: from `resolve`, so that its licence could be shown first. The Hub draws its own bar.
    Raises: WeightsError (network, gate, checksum), ResourceError (disk).
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    if progress is SILENT:
        disable_progress_bars()
    paths = {}
    for file in published.files:
        with _hub_errors(published):
            paths[file.name] = Path(
                hf_hub_download(
                    published.repo, file.name, revision=published.commit, cache_dir=cache_folder()
                )
            )
    _record(published, check_files(published, paths, progress))
    return paths


def check_files(
    published: Published, paths: Mapping[str, Path], progress: Progress = SILENT
) -> dict[str, FileEntry]:
    """Hash files and hold them to the hashes on record; returns what they are. Raises: WeightsError."""
    found = {}
    for file in published.files:
        path = paths[file.name]
        if file.sha256:
            check_sum(path, file.sha256, hint=repair_hint(published.source, path), progress=progress)
        sha256 = file.sha256 or sha256_of(path, progress)
        found[file.name] = FileEntry(name=file.name, sha256=sha256, size_bytes=path.stat().st_size)
    return found


def _record(published: Published, found: Mapping[str, FileEntry]) -> None:
    lock = _read_lock()
    lock[published.source] = {
        "repo": published.repo,
        "commit": published.commit,
        "licence": published.licence,
        "files": {
            file.name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for file in found.values()
        },
    }
    with atomic_path(cache_folder() / LOCK_NAME) as temporary:
        temporary.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")


def repair_hint(source: str, path: Path) -> str:
    """The command that replaces a damaged cached file."""
    return f"rm '{path.resolve()}' && lipsync models pull {source}"


def cache_folder() -> Path:
    """The Hugging Face cache (HF_HUB_CACHE, HF_HOME)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _read_lock() -> dict:
    path = cache_folder() / LOCK_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WeightsError(
            f"{path}: the lock is damaged.", f"rm '{path}', then pull the models again"
        ) from error


@contextmanager
def _hub_errors(published: Published) -> Iterator[None]:
    """Say which of the many ways to fail it was, and what to do."""
    from huggingface_hub import constants, errors

    repo, again = published.repo, f"lipsync models pull {published.source}"
    try:
        yield
    except errors.GatedRepoError as error:
        hint = f"accept the licence at https://huggingface.co/{repo}, then: hf auth login && {again}"
        raise WeightsError(f"{repo}: the licence must be accepted first.", hint) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise WeightsError(
            f"{repo}: no such repository or commit on the Hub.", "lipsync models list"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(repo, again, offline=constants.HF_HUB_OFFLINE) from error
    except errors.EntryNotFoundError as error:
        message = f"{repo}: the repository lacks {', '.join(file.name for file in published.files)}."
        raise WeightsError(message, "lipsync models list") from error
    # the Hub's client raises HTTPError, which is no OSError and not in its public list, when nothing answers
    except (OSError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise ResourceError(
                f"{cache_folder()}: the disk is full.", f"free space, then: {again}"
            ) from error
        raise _unreachable(repo, again, offline=constants.HF_HUB_OFFLINE) from error


def _unreachable(repo: str, again: str, *, offline: bool) -> WeightsError:
    if offline:
        return WeightsError(
            f"{repo}: HF_HUB_OFFLINE is set, so nothing is downloaded.", f"HF_HUB_OFFLINE=0 {again}"
        )
    return WeightsError(f"{repo}: the Hub cannot be reached.", f"check the network, then: {again}")


def total_bytes(files: Sequence[FileEntry]) -> int | None:
    """How much a download is by the sizes on record (a small file may lack one); None when there are none."""
    return sum(file.size_bytes or 0 for file in files) or None
