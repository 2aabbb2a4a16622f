"""Many clips: finding them, and that nothing that befalls one of them stops the others."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from lipsync_cli.core.errors import InputError, LipsyncError, ResourceError, WeightsError
from lipsync_cli.tasks import offset_batch
from lipsync_cli.tasks.offset import OffsetRequest
from lipsync_cli.tasks.offset_batch import find_clips, measure_clips
from tests.face_clips import noise, write_face_clip, write_random_model


def test_each_file_once_in_the_order_of_the_arguments(tmp_path):
    for name in ("b/2.mov", "b/1.mp4", "a.mp4", "b/.part.mp4", "b/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_clips([tmp_path / "b", tmp_path / "a.mp4", tmp_path / "*.mp4", tmp_path / "b/1.mp4"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["b/1.mp4", "b/2.mov", "a.mp4"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    odd = tmp_path / "take[1].mp4"
    odd.write_bytes(b"x")
    (tmp_path / "take1.mp4").write_bytes(b"x")
    assert find_clips([odd]) == (odd,)


def test_what_matches_nothing_stays_to_be_complained_about(tmp_path):
    named = (tmp_path / "*.mp4", tmp_path / "gone.mov", tmp_path)
    assert find_clips(named) == named


class Meter:
    """Stands in for OffsetMeter: fails as the name of the clip says."""

    def __init__(self, model: str, device: str) -> None:
        pass

    def measure(self, request: OffsetRequest, progress) -> str:
        failures = {"bug": ValueError("odd\nshape"), "memory": MemoryError(), "input": InputError("no face")}
        if request.clip.name in failures:
            raise failures[request.clip.name]
        return f"measured {request.clip.name}"


def test_a_bug_or_no_memory_is_the_outcome_of_that_clip(monkeypatch):
    monkeypatch.setattr(offset_batch, "OffsetMeter", Meter)
    requests = [OffsetRequest(Path(name)) for name in ("a", "bug", "memory", "input", "b")]
    outcomes = list(measure_clips(requests, "any", "cpu"))
    assert [outcome.clip.name for outcome in outcomes] == ["a", "bug", "memory", "input", "b"]
    assert outcomes[0].result == "measured a" and outcomes[4].result == "measured b"
    kinds = [type(outcome.error) for outcome in outcomes[1:4]]
    assert kinds == [LipsyncError, ResourceError, InputError]
    assert "bug: a bug in lipsync: ValueError: odd shape" in str(outcomes[1].error)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_random_model(tmp_path_factory.mktemp("model") / "random"))


def test_a_worker_that_dies_is_reported_and_replaced(tmp_path, model):
    clip = write_face_clip(tmp_path / "0.mp4", sound=noise(3))
    requests = [OffsetRequest(shutil.copy(clip, tmp_path / f"{number}.mp4")) for number in range(1, 5)]
    outcomes = measure_clips(requests, model, "cpu", workers=1)
    assert next(outcomes).result is not None
    (worker,) = multiprocessing.active_children()
    worker.kill()
    rest = list(outcomes)
    died = [outcome for outcome in rest if outcome.error]
    assert len(rest) == 3 and len(died) == 1
    assert isinstance(died[0].error, ResourceError)
    assert f"{died[0].clip}: the worker process that measured it died (signal 9)" in str(died[0].error)
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_end_the_batch(tmp_path):
    with pytest.raises(WeightsError) as caught:
        next(measure_clips([OffsetRequest(tmp_path / "a.mp4")], f"{tmp_path}/none", "cpu", workers=1))
    assert caught.value.exit_code == 5 and "config.json" in str(caught.value)
    assert multiprocessing.active_children() == []
