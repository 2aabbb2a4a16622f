"""Windows of speech with their lips numbers: sound and lips of the same moment, statistics of the training clips."""

import numpy as np
import pytest
import torch

from lipsync_cli.core.progress import SILENT
from lipsync_cli.networks.flashlips.audio2lips import AudioToLipsConfig
from lipsync_cli.networks.flashlips.objective_audio import (
    AudioToLipsData,
    AudioToLipsObjective,
    AudioToLipsRecipe,
    LipsSource,
    _correlations,
)
from lipsync_cli.networks.flashlips.speech import SpeechConfig
from tests.speaking_faces import write_faces

MODEL = AudioToLipsConfig(
    SpeechConfig("mel", width=8, hidden=8), frames=8, lips=2, references=3, pose=16, width=16, depth=1, heads=2
)  # fmt: skip


def loudness(samples: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(samples.reshape(-1, 640)).mean(1))


def read(clip) -> np.ndarray:
    """How loud each frame is, and its number."""
    level = loudness(clip.samples)
    return np.stack([level, np.arange(len(level))], 1).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"))


def objective(clips, **data) -> AudioToLipsObjective:
    recipe = AudioToLipsRecipe("", AudioToLipsData(str(clips), context_frames=3, **data), "", MODEL)
    return AudioToLipsObjective(recipe, LipsSource(2, read, lambda *_: None))


def test_sound_and_lips_are_of_the_same_moment(clips):
    some = objective(clips)
    starts = set()
    for index in range(40):
        example = some.example(index)
        assert example["samples"].shape == ((8 + 2 * 3) * 640,) and example["pose"].shape == (8, 16)
        heard = loudness(example["samples"].numpy())
        np.testing.assert_allclose(heard[3:-3], example["lips"][:, 0], rtol=1e-4, atol=1e-6)
        start = int(example["lips"][0, 1])
        assert example["lips"][:, 1].tolist() == list(range(start, start + 8))
        assert (heard[: max(0, 3 - start)] == 0).all() and heard[
            max(0, 3 - start)
        ] > 0  # silence before the clip
        assert example["references"].shape == (3, 2)
        starts.add(start)
    assert {0, 12} <= starts <= set(range(13))


def test_noise_and_time_are_as_equation_10_wants_them(clips):
    some = objective(clips)
    examples = [some.example(index) for index in range(300)]
    times = torch.stack([example["t"] for example in examples])
    noise = torch.stack([example["noise"] for example in examples])
    assert times.min() >= 0 and times.max() < 1 and abs(times.mean() - 0.5) < 0.06
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05


def test_lips_are_normalised_by_the_training_clips(clips):
    some = objective(clips)
    network = some.build().network
    every = np.concatenate([clip.lips for clip in some._train])
    assert len(every) == 100
    np.testing.assert_allclose(network.lips_mean, every.mean(0), rtol=1e-5)
    np.testing.assert_allclose(network.lips_std, every.std(0), rtol=1e-5)


def test_the_loss_of_a_network_that_stands_still(clips):
    """Untrained, v = 0: the loss is the mean square of u = z − ε."""
    some = objective(clips)
    module = some.build()
    batch = {name: torch.stack([some.example(i)[name] for i in range(4)]) for name in some.example(0)}
    z = (batch["lips"] - module.network.lips_mean) / module.network.lips_std
    assert module(batch)["loss"].item() == pytest.approx(
        (z - batch["noise"]).square().mean().item(), rel=1e-5
    )


def test_lips_numbers_are_kept_from_run_to_run(clips, tmp_path):
    first = objective(clips, lips_folder=str(tmp_path / "lips"))
    kept = sorted((tmp_path / "lips").rglob("*.npy"))
    assert len(kept) == 5

    def unasked(clip):
        raise AssertionError("read again")

    recipe = first.recipe
    again = AudioToLipsObjective(recipe, LipsSource(2, unasked, lambda *_: None))
    assert all(torch.equal(first.example(3)[name], again.example(3)[name]) for name in first.example(3))


def test_correlation():
    seen = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0], [2.0, -1.0, 5.0]])
    said = np.array([[1.0, 1.0, 0.0], [3.0, 2.0, 1.0], [5.0, 3.0, 2.0]])
    np.testing.assert_allclose(_correlations(said, seen), [1, -1, 0])


def test_validation_measures_what_is_said(clips):
    some = objective(clips)
    module = some.build().eval()
    metrics = some.validate(module, torch.device("cpu"), SILENT)
    assert metrics.keys() == {"error", "correlation", "correlation_widest"}
    # untrained it leaves the noise as it is: about E|n − m| of two independent numbers of deviation 1
    assert 0.7 < metrics["error"] < 1.6 and abs(metrics["correlation"]) < 0.5
