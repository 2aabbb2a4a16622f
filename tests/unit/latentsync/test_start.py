"""Where training starts: random numbers, LatentSync with or without motion modules, Stable Diffusion."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import ModelFolder
from lipsync_cli.networks.latentsync import start
from lipsync_cli.networks.latentsync.convert import save_unet
from lipsync_cli.networks.latentsync.start import STABLE_DIFFUSION_WEIGHTS, start_unet
from lipsync_cli.networks.latentsync.unet import UNetConfig

CONFIG = UNetConfig(channels=(32, 64), layers=1, heads=4, audio_width=16, groups=8)


def test_a_second_stage_goes_on_from_a_first_without_motion(tmp_path):
    first = start_unet(replace(CONFIG, motion=()), "")
    save_unet(first, 64, tmp_path / "first", "CC0-1.0")
    second = start_unet(CONFIG, f"{tmp_path}/first")
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    x, audio = torch.randn(1, 13, 4, 8, 8), torch.randn(1, 4, 50, 16)
    with torch.no_grad():  # motion modules begin as if they were not there
        assert torch.allclose(first(x, torch.tensor(5), audio), second(x, torch.tensor(5), audio), atol=1e-5)


def test_motion_modules_of_levels_without_are_left_out(tmp_path):
    both = start_unet(CONFIG, "")
    save_unet(both, 64, tmp_path / "both", "CC0-1.0")
    up = start_unet(replace(CONFIG, motion=("up",)), f"{tmp_path}/both")
    assert not any("down_blocks" in name and "motion" in name for name in up.state_dict())
    assert all(torch.equal(tensor, both.state_dict()[name]) for name, tensor in up.state_dict().items())


def test_weights_of_another_shape_are_refused(tmp_path):
    save_unet(start_unet(CONFIG, ""), 64, tmp_path / "small", "CC0-1.0")
    with pytest.raises(WeightsError, match="misshaped") as caught:
        start_unet(replace(CONFIG, channels=(32, 96)), f"{tmp_path}/small")
    assert caught.value.exit_code == 5


@pytest.fixture
def stable_diffusion(tmp_path, monkeypatch):
    """A tiny Stable Diffusion U-Net by diffusers: 4 channels in, text of another width."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=4, cross_attention_dim=24,
        norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    path = tmp_path / STABLE_DIFFUSION_WEIGHTS
    path.parent.mkdir()
    save_file(unet.state_dict(), path)
    folder = ModelFolder(name="stable-diffusion-1.5", path=tmp_path, network="stable-diffusion", config={},
                         preprocess={}, files={STABLE_DIFFUSION_WEIGHTS: path}, licence="", origin="")  # fmt: skip
    monkeypatch.setattr(start, "load_model_folder", lambda name: folder)
    return unet


def test_stable_diffusion_gives_all_but_what_takes_in_pictures_and_sound(stable_diffusion):
    ours, theirs = start_unet(CONFIG, "stable-diffusion-1.5").state_dict(), stable_diffusion.state_dict()
    taken = {name for name, tensor in ours.items() if name in theirs and torch.equal(tensor, theirs[name])}
    assert len(taken) > 100
    anew = {name for name in ours if name not in taken}
    assert {name for name in anew if "motion_modules." not in name} == {
        name
        for name in ours
        if name == "conv_in.weight" or name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    assert theirs.keys() <= ours.keys()


def test_stable_diffusion_of_other_sizes_is_refused(stable_diffusion):
    with pytest.raises(WeightsError, match="misshaped"):
        start_unet(replace(CONFIG, channels=(32, 96)), "stable-diffusion-1.5")


def test_a_model_of_another_kind_is_no_start():
    with pytest.raises(WeightsError, match="'lpips' is no start"):
        start_unet(CONFIG, "lpips-alex")
