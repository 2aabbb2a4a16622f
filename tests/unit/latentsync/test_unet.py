import pytest
import torch

from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig


@torch.no_grad()
def test_windows_of_a_batch_do_not_see_each_other(tiny_unet):
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 13, 4, 8, 8, generator=draw)
    audio = torch.randn(2, 4, 50, 16, generator=draw)
    both = tiny_unet(latents, torch.tensor([10, 700]), audio)
    second = tiny_unet(latents[1:], torch.tensor(700), audio[1:])
    assert both.shape == (2, 4, 4, 8, 8)
    assert torch.allclose(both[1:], second, atol=1e-5)


@torch.no_grad()
def test_each_frame_hears_its_own_sound(tiny_unet):
    """Others change too, through motion modules and pooled statistics, but less."""
    latents = torch.randn(1, 13, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    audio = torch.zeros(1, 4, 50, 16)
    louder = audio.clone()
    louder[:, 2] = 3
    changed = (tiny_unet(latents, torch.tensor(5), louder) - tiny_unet(latents, torch.tensor(5), audio)).abs()
    by_frame = changed.amax((0, 1, 3, 4))
    assert by_frame.argmax() == 2 and by_frame[2] > 2 * by_frame[[0, 1, 3]].max()


def test_windows_that_cannot_be_are_refused(tiny_unet):
    with pytest.raises(ValueError, match="at most 24 frames, not 25"):
        tiny_unet(torch.zeros(1, 13, 25, 8, 8), torch.tensor(0), torch.zeros(1, 25, 50, 16))
    with pytest.raises(ValueError, match="multiple of 2"):
        tiny_unet(torch.zeros(1, 13, 2, 7, 8), torch.tensor(0), torch.zeros(1, 2, 50, 16))


@pytest.mark.parametrize(
    ("motion", "places"),
    [((), set()), (("up",), {"up_blocks"}), (("down", "up"), {"down_blocks", "up_blocks"})],
)
def test_motion_modules_are_where_asked_for(motion, places):
    with torch.device("meta"):
        unet = LatentSyncUNet(UNetConfig(motion=motion))
    assert {name.split(".")[0] for name in unet.state_dict() if "motion_modules" in name} == places


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 64])
def test_both_published_sizes_run_at_real_width(size):
    with torch.device("meta"):
        unet = LatentSyncUNet(UNetConfig())
        noise = unet(torch.empty(2, 13, 16, size, size), torch.empty(2), torch.empty(2, 16, 50, 384))
    assert noise.shape == (2, 4, 16, size, size)
