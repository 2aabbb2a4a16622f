"""Training the U-Net: examples, each loss against its formula, what is trained, resuming, both stages through the loop."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lipsync_cli.core.errors import UsageError, WeightsError
from lipsync_cli.core.progress import SILENT
from lipsync_cli.hub import download
from lipsync_cli.hub.model_folder import load_model_folder, read_weights
from lipsync_cli.networks.blocks.lpips import load_lpips
from lipsync_cli.networks.latentsync import unet_objective
from lipsync_cli.networks.latentsync.convert import load_unet
from lipsync_cli.networks.latentsync.prepared import squares_of
from lipsync_cli.networks.latentsync.trepa import movement_distance
from lipsync_cli.networks.latentsync.unet import UNetConfig
from lipsync_cli.networks.latentsync.unet_objective import UNetObjective
from lipsync_cli.tasks.train import TrainRequest, load_recipe, run_recipe
from lipsync_cli.training.log import read_log
from tests.prepared_clips import KEYS, write_prepared

SHRUNK = (
    "data.train={keys: ['a/*', 'b/*']}", "data.validate={keys: ['c/four']}", "data.cache_gb=0.1",
    "model.audio_width=16", "loop.batch_size=2", "loop.workers=0", "loop.log_every=1",
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


@pytest.fixture
def recipe(clips, teachers):
    def make(stage: int, *overrides: str) -> tuple[str, ...]:
        names = ", ".join(f"{name}: {folder}" for name, folder in teachers.items())
        sets = [f"data.manifest={clips}", *SHRUNK, f"teachers={{{names}, lpips: lpips-alex}}"]
        second = ["start=''", "loss.movement=10.0"] if stage == 2 else []
        return (*sets, *second, *overrides)

    return make


@pytest.fixture
def objective(recipe):
    def make(stage: int, *overrides: str) -> UNetObjective:
        return UNetObjective(
            load_recipe("dub", f"latentsync_stage{stage}_tiny", recipe(stage, *overrides))[0]
        )

    return make


def batch_of(examples: UNetObjective, *numbers: int) -> dict[str, torch.Tensor]:
    drawn = [examples.example(number) for number in numbers]
    return {name: torch.stack([example[name] for example in drawn]) for name in drawn[0]}


class Answers(torch.nn.Module):
    """In the U-Net's place: the same answer to everything."""

    def __init__(self, noise: torch.Tensor) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, seen, timestep, audio):
        return self.noise


def test_an_example_depends_on_its_number_alone_and_shows_two_moments(objective):
    first, again, other = objective(1).example(3), objective(1).example(3), objective(1).example(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["noise"], other["noise"])
    assert first["pictures"].shape == first["reference"].shape == (16, 72, 72, 3)
    assert first["heard"].shape == (16, 50, 16) and first["mel"].shape == (1, 80, 52)
    assert first["noise"].shape == (4, 16, 8, 8) and 0 <= first["timestep"] < 1000


def test_references_never_overlap_what_they_are_for(objective):
    """Frames of the test clips are told apart by their brightest row; no frame may be in both windows."""
    examples = objective(1)
    starts = []
    examples._window = lambda clip, data, start, reference, timestep, seed: starts.append((start, reference))
    for number in range(200):
        examples.example(number)
    assert all(abs(start - reference) >= 16 for start, reference in starts)
    assert {start > reference for start, reference in starts} == {True, False}
    assert min(min(pair) for pair in starts) == 0 and max(max(pair) for pair in starts) == 24


def test_stage_one_is_the_error_of_the_noise(objective):
    """Equation 2, with the U-Net's input put together here."""
    examples = objective(1)
    torch.manual_seed(0)
    module = examples.build().eval()
    batch = batch_of(examples, 0, 1)
    with torch.no_grad():
        losses = module(batch)
        vae = module.teachers.codec.vae

        def latents(pictures):
            return torch.stack(
                [vae.encode(some).latent_dist.mode() * 0.18215 for some in pictures]
            ).transpose(1, 2)

        def squares(name):
            pairs = zip(batch[name], batch[f"{name}_canvas"], strict=True)
            return torch.stack([squares_of(*pair, 64) for pair in pairs])

        real, mask = squares("pictures"), module._mask
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        power = (1 - betas).cumprod(0)[batch["timestep"]][:, None, None, None, None].float()
        noisy = power.sqrt() * latents(real) + (1 - power).sqrt() * batch["noise"]
        keep = module._latent_mask.expand(2, 16, 1, 8, 8).transpose(1, 2)
        seen = torch.cat([noisy, keep, latents(real * mask), latents(squares("reference"))], 1)
        found = module.unet(seen, batch["timestep"], batch["heard"])
    assert losses.keys() == {"loss", "noise"}
    assert float(losses["loss"]) == pytest.approx(float(((found - batch["noise"]) ** 2).mean()), rel=1e-4)


def test_stage_two_is_the_weighted_sum_of_its_losses_on_the_decoded_picture(objective):
    """Equation 5, with the true noise as the U-Net's answer: one step then leads back to what the codec makes of a face."""
    examples = objective(2)
    module = examples.build().eval()
    batch = batch_of(examples, 0)
    module.unet = Answers(batch["noise"])
    with torch.no_grad():
        losses = module(batch)
        teachers = module.teachers
        real = squares_of(batch["pictures"][0], batch["pictures_canvas"][0], 64)
        made = teachers.codec.decode(teachers.codec.encode(real))
        cosine = (teachers.syncnet.embed_frames(made[:, :, 32:].flatten(0, 1)[None])
                  * teachers.syncnet.embed_mel(batch["mel"])).sum()  # fmt: skip
        picture = load_lpips(load_model_folder("lpips-alex"))(made[:, :, 32:], real[:, :, 32:]).mean()
        movement = movement_distance(teachers.movement, made[None], real[None])
    assert float(losses["noise"]) == 0
    assert float(losses["sync"]) == pytest.approx(-np.log(float(cosine) + 1e-6), abs=1e-3)
    assert float(losses["picture"]) == pytest.approx(float(picture), rel=1e-3)
    assert float(losses["movement"]) == pytest.approx(float(movement), rel=1e-2)
    expected = 0.05 * losses["sync"] + 0.1 * losses["picture"] + 10 * losses["movement"]
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-6)


def test_syncnet_sees_faces_of_its_own_size(objective):
    """As it must at 512 px: here faces of 48 px are shown to a SyncNet of 64 px."""
    examples = objective(2, "size_px=48", "loss.picture=0", "loss.movement=0")
    module = examples.build().eval()
    shown = []
    syncnet = module.teachers.syncnet
    embed = syncnet.embed_frames
    syncnet.embed_frames = lambda frames: shown.append(frames.shape) or embed(frames)
    with torch.no_grad():
        losses = module(batch_of(examples, 0))
    assert shown == [(1, 48, 32, 64)] and losses["sync"].isfinite()
    assert losses.keys() == {"loss", "noise", "sync"}


def test_only_what_is_named_is_trained(objective):
    unet = objective(2).build().unet
    trained = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert trained and all("motion_modules." in name or "attentions." in name for name in trained)
    assert {name.split(".")[0] for name in trained} == {"down_blocks", "mid_block", "up_blocks"}
    assert all(parameter.requires_grad for parameter in objective(1).build().unet.parameters())
    with pytest.raises(UsageError, match="no weight's name holds 'motion_module:'") as caught:
        objective(1, "trained=['motion_module:']").build()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("stage", [1, 2])
def test_recomputing_changes_no_gradient(objective, stage):
    def gradients(recompute: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        examples = objective(stage, f"recompute={recompute}")
        module = examples.build().eval()  # the same latents both times
        module(batch_of(examples, 0))["loss"].backward()
        return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}

    kept, again = gradients(False), gradients(True)
    assert kept.keys() == again.keys() and len(kept) > 20
    for name, gradient in kept.items():
        assert torch.allclose(gradient, again[name], rtol=1e-3, atol=1e-6), name


def test_gradients_of_every_picture_loss_reach_the_attention_to_sound(objective):
    for name in ("sync", "picture", "movement"):
        zeros = [f"loss.{other}=0" for other in ("noise", "sync", "picture", "movement") if other != name]
        examples = objective(2, *zeros, f"loss.{name}=1")
        torch.manual_seed(0)
        module = examples.build()
        losses = module(batch_of(examples, 1))
        losses["loss"].backward()
        gradient = module.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v.weight.grad
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0, name
        assert name in losses


TINY = (
    "model={channels: [32, 64], layers: 1, heads: 4, audio_width: 16, groups: 8, motion: %s}", "size_px=64",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "motion"),
    [
        ("stage1", "[]"),
        ("stage1_512", "[]"),
        ("stage2", "[down, up]"),
        ("stage2_512", "[down, up]"),
        ("stage2_efficient", "[up]"),
    ],
)
def test_the_loss_of_every_recipe_falls_at_tiny_sizes(recipe, name, motion):
    """Three steps on one example, with the recipe's own losses and choice of weights."""
    sizes = [setting % motion if "%s" in setting else setting for setting in TINY]
    sets = [setting for setting in recipe(1) if not setting.startswith("model.")]
    examples = UNetObjective(load_recipe("dub", f"latentsync_{name}", [*sets, *sizes, "start=''"])[0])
    torch.manual_seed(0)
    module = examples.build()
    module.eval()  # the same latents each time
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=2e-3)
    batch, losses = batch_of(examples, 0), []
    for _ in range(3):
        optimiser.zero_grad()
        loss = module(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all() and losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("stage", [1, 2])
def test_two_steps_are_the_same_in_one_run_and_in_two(
    recipe, stage, tmp_path, monkeypatch, _fresh_accelerator
):
    monkeypatch.setattr(unet_objective, "VALIDATED_TIMESTEPS", (500,))
    sets = recipe(stage, "loop.steps=2", "loop.checkpoint_every=1", "loop.batch_size=1")
    request = TrainRequest("dub", f"latentsync_stage{stage}_tiny", tmp_path / "run", sets, cpu=True)
    whole = run_recipe(request)
    first = read_weights(tmp_path / "run" / "model" / "model.safetensors")
    # as if it had been killed after its first step
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_0000002")
    run_recipe(request)
    second = read_weights(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(first[weight], second[weight]) for weight in first)
    train = [line for line in read_log(tmp_path / "run" / "log.jsonl") if line["event"] == "train"]
    expected = {"noise"} | ({"sync", "picture", "movement"} if stage == 2 else set())
    assert len(train) == 2 and all(np.isfinite(line[part]) for line in train for part in expected | {"loss"})
    assert expected <= whole.metrics.keys()
    # checkpoints hold the U-Net, not the teachers
    saved = read_weights(next((tmp_path / "run" / "checkpoints").glob("step_0000002/model.safetensors")))
    assert {weight.split(".")[0] for weight in saved} == {"unet"}
    unet, size_px = load_unet(load_model_folder(tmp_path / "run" / "model", network="latentsync"))
    assert size_px == 64 and unet.config.audio_width == 16
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["preprocess"]["validation"]


def test_validation_is_the_same_every_time(objective):
    examples = objective(1)
    module = examples.build().eval()
    with torch.no_grad():
        first, again = (examples.validate(module, torch.device("cpu"), SILENT) for _ in range(2))
    assert first == again and first["noise"] > 0


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")


def test_a_teacher_that_is_not_there_is_named_with_what_brings_it(objective, teachers, empty_cache):
    with pytest.raises(WeightsError, match="model is not on this machine") as caught:
        objective(2, "teachers.lpips=lpips-vgg").build()
    assert caught.value.exit_code == 5 and caught.value.hint == "lipsync models pull lpips-vgg"
    with pytest.raises(WeightsError, match="where one of 'stable-syncnet' is needed"):
        objective(2, f"teachers.syncnet={teachers['videomae']}").build()


def test_networks_that_do_not_fit_each_other_are_refused(objective, empty_cache):
    with pytest.raises(UsageError, match="gives 16 numbers where the U-Net hears 24") as caught:
        objective(1, "model.audio_width=24").build()
    assert caught.value.hint == "--set model.audio_width=16"
    with pytest.raises(UsageError, match="windows have 12 frames where StableSyncNet sees 16"):
        objective(2, "frames=12").build()
    with pytest.raises(WeightsError, match="whisper-tiny: the model is not on this machine") as caught:
        objective(1, "teachers.whisper=whisper-tiny").build()
    assert caught.value.hint == "lipsync models pull whisper-tiny"


def test_crops_that_are_too_small_are_refused(objective):
    with pytest.raises(UsageError, match="72 px wide where 80 px") as caught:
        objective(1, "size_px=80").build()
    assert "--face-px 80" in caught.value.hint
    with pytest.raises(UsageError, match="multiple of 8"):
        objective(1, "size_px=60")


def test_noise_losses_are_those_of_torch(objective):
    """A stand-in that answers with zeros costs the noise's own power, which is 1."""
    examples = objective(1)
    module = examples.build().eval()
    batch = batch_of(examples, *range(4))
    module.unet = Answers(torch.zeros_like(batch["noise"]))
    loss = module(batch)["loss"]
    assert float(loss) == pytest.approx(float(F.mse_loss(torch.zeros_like(batch["noise"]), batch["noise"])))
    assert float(loss) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("name", "size_px", "motion", "trained", "weights", "start"),
    [
        ("stage1", 256, (), (), (1, 0, 0, 0), "stable-diffusion-1.5"),
        ("stage1_512", 512, (), (), (1, 0, 0, 0), "stable-diffusion-1.5"),
        ("stage2", 256, ("down", "up"), ("motion_modules.", "attentions."), (1, 0.05, 0.1, 10), "runs/"),
        ("stage2_512", 512, ("down", "up"), ("motion_modules.", "attentions."), (1, 0.05, 0.1, 10), "runs/"),
        ("stage2_efficient", 256, ("up",), ("motion_modules.", "attn2."), (1, 0.05, 0.1, 0), "runs/"),
    ],
)
def test_recipes_have_the_published_numbers(name, size_px, motion, trained, weights, start):
    recipe, _ = load_recipe("dub", f"latentsync_{name}", ["data.manifest=x"])
    assert (recipe.size_px, recipe.model.motion, recipe.trained) == (size_px, motion, trained)
    loss = recipe.loss
    assert (loss.noise, loss.sync, loss.picture, loss.movement) == weights
    assert recipe.start.startswith(start) and recipe.shared_noise == 1 and recipe.frames == 16
    assert recipe.loop.optim.lr == 1e-5 and recipe.loop.optim.clip_norm == 1 and recipe.recompute
    assert recipe.model == replace(UNetConfig(), motion=motion)
