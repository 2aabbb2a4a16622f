import pytest
import torch

from lipsync_cli.networks.vsr.crops import centre_crop, grey, published_input, random_crop


def test_published_input_is_the_middle_normalised():
    images = torch.zeros(2, 96, 96, dtype=torch.uint8)
    images[:, 4:92, 4:92] = 255
    video = published_input(images)
    assert video.shape == (2, 1, 88, 88)
    assert torch.allclose(video, torch.full_like(video, (1 - 0.421) / 0.165))


def test_grey_weighs_red_green_blue():
    image = torch.tensor([[[100, 0, 0], [0, 100, 0], [0, 0, 100], [255, 255, 255]]], dtype=torch.uint8)
    assert grey(image)[0].tolist() == pytest.approx([29.89, 58.7, 11.4, 254.97], abs=0.01)


def test_random_crop_is_one_place_for_all_images_and_reaches_every_place():
    images = torch.arange(3 * 4, dtype=torch.float32).reshape(3, 4).expand(2, 3, 4)
    corners = set()
    for seed in range(60):
        crop = random_crop(images, 2, 2, torch.Generator().manual_seed(seed))
        assert torch.equal(crop[0], crop[1])
        corners.add(float(crop[0, 0, 0]))
    assert corners == {0, 1, 2, 4, 5, 6}


@pytest.mark.parametrize("cut", [centre_crop, random_crop])
def test_small_images_are_refused(cut):
    with pytest.raises(ValueError, match="88×88 from 80×90"):
        cut(torch.zeros(1, 80, 90), 88, 88)
