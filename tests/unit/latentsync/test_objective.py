"""Training StableSyncNet: examples, loss, validation, two steps through the one loop."""

import json
import math

import pytest
import torch

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import SILENT
from lipsync_cli.data.clips import load_clip
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.latentsync.convert import load_syncnet
from lipsync_cli.networks.latentsync.mel import syncnet_mel
from lipsync_cli.networks.latentsync.objective import SyncNetObjective, match_loss
from lipsync_cli.networks.latentsync.prepared import canvases, squares_of
from lipsync_cli.networks.latentsync.syncnet import lower_half
from lipsync_cli.tasks.train import TrainRequest, load_recipe, run_recipe
from lipsync_cli.training.log import read_log
from tests.prepared_clips import KEYS, write_prepared

SHRUNK = (
    "data.train={keys: ['a/*', 'b/*']}", "data.validate={keys: ['c/*']}", "data.cache_gb=0.1",
    "model.audio={channels_in: 1, channels: [32, 64], strides: [[16, 8], [8, 8]]}",
    "model.visual={channels_in: 48, channels: [32, 64], strides: [[8, 8], [4, 8]]}",
    "loop.batch_size=4", "loop.workers=0", "loop.log_every=1", "loop.optim.warmup_steps=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"), KEYS, num_frames=40, side_px=72)


@pytest.fixture
def _fresh_accelerator():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def objective(clips, *overrides):
    sets = [f"data.manifest={clips}", *SHRUNK, *overrides]
    return SyncNetObjective(load_recipe("syncnet", "stable_syncnet_tiny", sets)[0])


def test_loss_by_hand():
    cosine, match = torch.tensor([0.9, 0.2, 0.5]), torch.tensor([1.0, 0.0, 1.0])
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3
    assert float(match_loss(cosine, match)) == pytest.approx(expected, abs=1e-5)


def test_guessing_costs_0_693_and_certain_error_is_finite():
    half = torch.full((8,), 0.5)
    assert float(match_loss(half, torch.tensor([1.0, 0.0] * 4))) == pytest.approx(0.693, abs=5e-4)
    wrong = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = match_loss(wrong, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.isfinite() and wrong.grad is not None and wrong.grad.isfinite().all()


def test_an_example_is_a_pair_and_depends_on_its_number_alone(clips):
    first, again, other = (
        objective(clips).example(3),
        objective(clips).example(3),
        objective(clips).example(7),
    )
    assert first["frames"].shape == (48, 32, 64) and first["mel"].shape == (1, 80, 52)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mel"], other["mel"])
    assert first["frames"].min() >= -1 and first["frames"].max() <= 1


@pytest.mark.parametrize("positive", [0.0, 0.5, 1.0])
def test_as_many_pairs_belong_together_as_asked_for(clips, positive):
    examples = objective(clips, f"data.positive={positive}")
    share = sum(float(examples.example(i)["match"]) for i in range(60)) / 60
    assert share == pytest.approx(positive, abs=0.2 * (positive == 0.5))


@pytest.mark.parametrize("positive", [0.0, 1.0])
def test_pairs_are_of_one_moment_or_of_two(clips, positive):
    """Where in its clip each half of an example comes from, by comparing it with every place."""
    examples = objective(clips, f"data.positive={positive}", "data.train={keys: ['a/one']}")
    clip = load_clip(clips, examples._train.clips[0], grey=False)
    faces = squares_of(torch.from_numpy(clip.frames), torch.tensor(canvases(clip, 64)), 64)
    faces = lower_half(faces[:, None])
    films = [faces[s : s + 16].flatten(0, 1) for s in range(25)]
    mel = syncnet_mel(torch.from_numpy(clip.samples))
    sounds = [mel[None, :, int(80 * s / 25) :][:, :, :52] for s in range(25)]
    for index in range(6):
        example = examples.example(index)
        seen = [s for s in range(25) if torch.equal(films[s], example["frames"])]
        heard = [s for s in range(25) if torch.equal(sounds[s], example["mel"])]
        assert len(seen) == len(heard) == 1
        assert (seen == heard) == bool(positive) == bool(example["match"])


def test_two_steps_and_a_model_that_offset_can_read(clips, tmp_path, _fresh_accelerator):
    sets = (f"data.manifest={clips}", *SHRUNK, "loop.steps=2")
    result = run_recipe(TrainRequest("syncnet", "stable_syncnet_tiny", tmp_path, sets, cpu=True))
    train = [line for line in read_log(tmp_path / "log.jsonl") if line["event"] == "train"]
    assert len(train) == 2 and all(0 < line["loss"] < 20 for line in train)
    assert {"loss", "accuracy", "stuck"} <= result.metrics.keys()
    folder = load_model_folder(tmp_path / "model", network="stable-syncnet")
    assert load_syncnet(folder).config.crop_px == 64
    assert json.loads((tmp_path / "model" / "config.json").read_text())["preprocess"]["validation"]


def test_the_loss_falls(clips):
    examples = objective(clips)
    torch.manual_seed(0)
    module = examples.build()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)
    drawn = [examples.example(i) for i in range(8)]
    batch = {name: torch.stack([example[name] for example in drawn]) for name in drawn[0]}
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = module(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1


class Guessing(torch.nn.Module):
    def forward(self, batch):
        cosine = torch.full_like(batch["match"], 0.5)
        return {"loss": match_loss(cosine, batch["match"]), "accuracy": batch["match"].mean()}


def test_validation_says_when_nothing_is_learnt(clips):
    metrics = objective(clips).validate(Guessing(), torch.device("cpu"), SILENT)
    assert metrics["loss"] == pytest.approx(0.693, abs=1e-3) and metrics["stuck"] == 1
    assert metrics["accuracy"] == pytest.approx(0.5)  # half of the pairs belong together


def test_clips_that_do_not_fit_are_refused(clips):
    with pytest.raises(UsageError, match="42 frames"):
        objective(clips, "model.frames=21")
    with pytest.raises(UsageError, match="72 px wide where 80 px") as caught:
        objective(clips, "model.crop_px=80").build()
    assert "--face-px 80" in caught.value.hint
