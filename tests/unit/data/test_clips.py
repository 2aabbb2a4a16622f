"""Prepared clips in memory."""

from dataclasses import replace

import numpy as np
import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.data.clips import ClipStore, load_clip, read_landmarks, write_landmarks
from lipsync_cli.data.manifest import read_manifest
from lipsync_cli.media.write import write_flac
from tests.prepared_clips import KEYS, write_prepared

CLIP_BYTES = 20 * 36 * 36 + 20 * 640 * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"), KEYS)


def test_shapes_and_colours(folder):
    clip = read_manifest(folder)[0]
    colour, grey = load_clip(folder, clip, grey=False), load_clip(folder, clip, grey=True)
    assert colour.frames.shape == (20, 36, 36, 3) and grey.frames.shape == (20, 36, 36, 1)
    assert colour.frames.dtype == grey.frames.dtype == np.uint8
    luma = colour.frames @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - grey.frames[..., 0]).max() <= 1
    assert colour.samples.shape == (20 * 640,) and colour.samples.dtype == np.float32
    assert 0.2 < np.abs(colour.samples).max() < 0.45


@pytest.mark.parametrize("length", [3000, 20 * 640, 20_000])
def test_sound_is_cut_or_filled_to_the_picture(folder, tmp_path, length):
    import shutil

    shutil.copytree(folder, tmp_path / "p")
    clip = read_manifest(tmp_path / "p")[0]
    tone = 0.5 * np.sin(np.arange(length) * 0.1)
    write_flac(tmp_path / "p" / clip.sound, tone, 16_000)
    samples = load_clip(tmp_path / "p", clip, grey=True).samples
    wanted = np.zeros(20 * 640)
    wanted[: min(length, 20 * 640)] = tone[: 20 * 640]
    assert np.abs(samples - wanted).max() < 1e-3


@pytest.mark.parametrize(("clips_worth", "kept"), [(0, 1), (1.5, 1), (2.5, 2), (9, 5)])
def test_the_store_keeps_to_its_budget(folder, clips_worth, kept):
    clips = read_manifest(folder)
    store = ClipStore(folder, clips, grey=True, cache_gb=clips_worth * CLIP_BYTES / 1e9)
    for clip in clips:
        store.load(clip)
    again = [store.load(clip) for clip in clips[-kept:]]
    assert [store.load(clip) for clip in clips[-kept:]] == again, "the newest are still the same objects"
    assert len(store._cache) == kept


def test_the_least_recently_used_goes_first(folder):
    first, second, third, *_ = read_manifest(folder)
    store = ClipStore(folder, [], grey=True, cache_gb=2.5 * CLIP_BYTES / 1e9)
    data = store.load(first)
    store.load(second)
    assert store.load(first) is data
    store.load(third)
    assert store.load(first) is data
    assert set(store._cache) == {first.key, third.key}


def test_a_missing_picture_is_an_input_error(folder):
    clip = read_manifest(folder)[0]
    with pytest.raises(InputError) as caught:
        load_clip(folder / "elsewhere", clip, grey=True)
    assert caught.value.exit_code == 3


def test_landmarks_are_read_back_to_a_128th_of_a_pixel(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(-200, 400, (3, 478, 2)).astype(np.float32)
    write_landmarks(tmp_path / "l.npy", points)
    assert np.abs(read_landmarks(tmp_path / "l.npy", 3) - points).max() <= 1 / 128 + 1e-4


def test_data_without_landmarks_still_loads(folder):
    clip = read_manifest(folder)[0]
    assert clip.landmarks == "" and load_clip(folder, clip, grey=True).landmarks is None


@pytest.mark.parametrize("fault", ["missing", "damaged", "short"])
def test_landmarks_that_do_not_fit_are_an_input_error(folder, fault):
    clip = replace(read_manifest(folder)[0], landmarks=f"{fault}.npy")
    if fault == "damaged":
        (folder / clip.landmarks).write_bytes(b"no numbers")
    if fault == "short":
        write_landmarks(folder / clip.landmarks, np.zeros((7, 478, 2)))
    with pytest.raises(InputError, match=f"{fault}.npy") as caught:
        load_clip(folder, clip, grey=True)
    assert caught.value.exit_code == 3
