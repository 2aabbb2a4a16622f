"""Published models: pulled with their licence known, recorded, found again, and held to what is on record."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from lipsync_cli.core.errors import ResourceError, UsageError, WeightsError
from lipsync_cli.hub import download
from lipsync_cli.hub.catalogue import FileEntry, ModelEntry, read_catalogue
from lipsync_cli.hub.download import describe, pull, resolve
from lipsync_cli.hub.model_folder import load_model_folder, verify
from lipsync_cli.tasks.models import pull_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a catalogue with one pinned and one unpinned model."""
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)

    def entry(name: str, commit: str | None, file: FileEntry) -> ModelEntry:
        described = {"kind": "sync", "network": "net", "licence": "MIT", "url": "", "description": ""}
        return ModelEntry(name=name, repo="org/repo", commit=commit, files=(file,), **described)

    entries = {
        "pinned": entry("pinned", COMMIT, FileEntry(name="w.pt", sha256=DIGEST, size_bytes=len(CONTENT))),
        "loose": entry("loose", None, FileEntry(name="w.pt")),
    }
    monkeypatch.setattr(download, "find_entry", entries.__getitem__)
    monkeypatch.setattr("lipsync_cli.hub.model_folder.read_catalogue", lambda: entries)
    return tmp_path


@pytest.fixture
def hub(cache, monkeypatch):
    """A Hub that serves CONTENT for every file, laid out in the cache as the real one does."""
    served = SimpleNamespace(content=CONTENT, asked=[])

    def hf_hub_download(repo: str, name: str, *, revision: str, cache_dir: Path) -> str:
        served.asked.append((repo, name, revision))
        path = cache_dir / f"models--{repo.replace('/', '--')}" / "snapshots" / revision / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(served.content)
        return str(path)

    info = SimpleNamespace(sha=COMMIT, card_data={"license": "cc0-1.0"})
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, repo, revision=None: info)
    return served


def test_a_pinned_model_is_pulled_at_its_commit_and_found_again(hub):
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        load_model_folder("pinned")
    assert caught.value.hint == "lipsync models pull pinned"
    pull(resolve("pinned"))
    assert hub.asked == [("org/repo", "w.pt", COMMIT)]
    model = load_model_folder("pinned", network="net")
    assert model.file("w.pt").read_bytes() == CONTENT
    assert model.origin == f"org/repo@{COMMIT}"


def test_the_licence_is_known_before_the_first_byte(hub):
    def announce(published):
        assert hub.asked == []
        assert (published.licence, published.commit, published.pinned) == ("MIT", COMMIT, False)

    assert pull_model("loose", announce).commit == COMMIT
    assert len(hub.asked) == 1


def test_an_unpinned_model_is_remembered_in_the_lock(cache, hub):
    assert describe("loose").commit is None
    pull(resolve("loose"))
    lock = json.loads((cache / download.LOCK_NAME).read_text())
    assert lock["loose"]["commit"] == COMMIT
    assert lock["loose"]["files"] == {"w.pt": {"sha256": DIGEST, "size_bytes": len(CONTENT)}}
    assert verify("loose").file("w.pt").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_when_they_arrive(hub, cache):
    hub.content = b"other!!"
    with pytest.raises(WeightsError, match="wrong checksum") as caught:
        pull(resolve("pinned"))
    assert caught.value.exit_code == 5
    assert caught.value.hint.endswith("&& lipsync models pull pinned")
    assert not (cache / download.LOCK_NAME).exists()


@pytest.mark.parametrize("name", ["pinned", "loose"])
def test_bytes_that_change_later_are_found_by_verify(hub, name):
    path = next(iter(pull(resolve(name)).values()))
    path.write_bytes(b"WEIGHTS")  # the same size
    load_model_folder(name)
    with pytest.raises(WeightsError, match="wrong checksum"):
        verify(name)


def test_a_truncated_file_counts_as_absent(hub):
    path = next(iter(pull(resolve("pinned")).values()))
    path.write_bytes(CONTENT[:3])
    with pytest.raises(WeightsError, match="not on this machine"):
        load_model_folder("pinned")


def test_a_hub_folder_is_pinned_by_the_user(hub):
    source = f"hf:org/repo@{COMMIT}"
    hub.content = json.dumps({"format_version": 1, "network": "net", "config": {"a": 1}}).encode()
    published = resolve(source)
    assert published.pinned and published.licence == "cc0-1.0"
    pull(published)
    assert load_model_folder(source, network="net").config == {"a": 1}
    assert verify(source).origin == f"org/repo@{COMMIT}"


@pytest.mark.parametrize(
    "source", ["hf:org/repo", "hf:org/repo@main", "hf:repo@" + COMMIT, f"hf:org/repo@{COMMIT[:7]}"]
)
def test_a_hub_folder_without_a_full_commit(source):
    with pytest.raises(UsageError, match="not pinned"):
        describe(source)


def test_offline_is_told_as_such(cache):
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set") as caught:
        pull(resolve("pinned"))
    assert caught.value.hint == "HF_HUB_OFFLINE=0 lipsync models pull pinned"


RESPONSE = SimpleNamespace(headers={}, request=None, status_code=403)


@pytest.mark.parametrize(
    ("error", "kind", "word", "hint"),
    [
        (errors.HTTPError("no route"), WeightsError, "cannot be reached", "check the network"),
        (ConnectionResetError(104, "reset"), WeightsError, "cannot be reached", "lipsync models pull pinned"),
        (
            errors.GatedRepoError("no", response=RESPONSE),
            WeightsError,
            "licence must be accepted",
            "hf auth login",
        ),
        (
            errors.RevisionNotFoundError("no", response=RESPONSE),
            WeightsError,
            "no such",
            "lipsync models list",
        ),
        (errors.EntryNotFoundError("no"), WeightsError, r"lacks w\.pt", "lipsync models list"),
        (OSError(28, "full"), ResourceError, "disk is full", "free space"),
    ],
)
def test_every_way_to_fail_has_its_sentence(cache, monkeypatch, error, kind, word, hint):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(kind, match=word) as caught:
        pull(resolve("pinned"))
    assert hint in caught.value.hint


def test_a_damaged_lock_is_named(cache):
    (cache / download.LOCK_NAME).write_text("{")
    with pytest.raises(WeightsError, match="the lock is damaged"):
        describe("pinned")


def test_the_catalogue_is_well_formed():
    entries = read_catalogue()
    assert len(entries) >= 9
    for entry in entries.values():
        assert entry.licence and entry.url.startswith("https://") and entry.description
        assert entry.embedded == (entry.repo is None) == (not entry.files)
        assert entry.commit is None or len(entry.commit) == 40
        for file in entry.files:
            assert file.sha256 is None or (len(file.sha256) == 64 and entry.commit), "a hash needs its commit"
            assert not Path(file.name).is_absolute() and ".." not in Path(file.name).parts


@pytest.mark.hub
@pytest.mark.parametrize("name", ["wav2vec2-base", "whisper-tiny", "stable-syncnet"])
def test_the_hub_has_what_the_catalogue_says(name):
    info = huggingface_hub.HfApi().model_info(
        read_catalogue()[name].repo, revision=read_catalogue()[name].commit, files_metadata=True
    )
    there = {file.rfilename: file for file in info.siblings}
    for file in read_catalogue()[name].files:
        assert file.name in there
        if file.sha256 and there[file.name].lfs:
            assert there[file.name].lfs.sha256 == file.sha256
