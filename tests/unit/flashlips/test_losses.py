"""Equations 4 to 9 against numbers worked out by hand."""

import pytest
import torch

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.networks.flashlips import features
from lipsync_cli.networks.flashlips.features import FeatureNetwork, load_features
from lipsync_cli.networks.flashlips.losses import (
    Edited,
    EditorLossConfig,
    editor_losses,
    feature_loss,
    lips_loss,
    masked_mae,
)


def mask(*rows) -> torch.Tensor:
    return torch.tensor([[list(rows)]], dtype=torch.float32)


def test_a_masked_mean_counts_only_where_the_mask_is():
    difference = torch.tensor([[[[1.0, -2.0], [4.0, 8.0]], [[0.0, 6.0], [0.0, 0.0]]]])
    assert masked_mae(difference, mask([1, 1], [0, 0])).tolist() == [(1 + 2 + 0 + 6) / 4]
    # a soft mask weighs, and its support is where it is not 0
    assert masked_mae(difference, mask([0.5, 0], [0, 0.25])).tolist() == [(0.5 + 2 + 0 + 0) / 4]
    assert masked_mae(difference, mask([0, 0], [0, 0])).tolist() == [0.0]


def test_lips_count_from_a_share_of_the_picture_on():
    error = torch.full((2, 3, 10, 10), 0.5)
    lips = torch.zeros(2, 1, 10, 10)
    lips[0, 0, 0, :3] = 1  # 3 %
    lips[1, 0, 0, :2] = 1  # 2 %
    assert lips_loss(error, lips, 0.02).item() == pytest.approx(0.5)
    assert lips_loss(error, lips, 0.03).item() == pytest.approx(0.25)  # one of two frames
    assert lips_loss(error, lips, 0.04).item() == 0.0


class Doubles(torch.nn.Module):
    """A stand-in for φ: the picture, and twice its mean."""

    def forward(self, x):
        return [x, 2 * x.mean((2, 3))]


def test_features_are_compared_layer_by_layer():
    x, y = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    x[0, 0, 0, 0] = 1.2
    assert feature_loss(Doubles(), x, y).item() == pytest.approx(1.2 / 12 + 2 * 0.3 / 3)


def edited() -> Edited:
    """A stride of 2: one latent channel of 2 × 2 for pictures of 4 × 4."""
    z = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]]]])
    x = torch.zeros(1, 3, 4, 4)
    x[:, :, 3] = 0.8  # 0.4 when pictures count from 0 to 1
    mouth, lips = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mouth[..., 2:, :] = 1
    mouth[..., 1, :2] = 1  # half of the first latent
    lips[..., 3, 1:3] = 1
    return Edited(z, torch.zeros_like(z), x, torch.zeros_like(x), mouth, lips)


def test_every_loss_and_their_sum():
    losses = editor_losses(edited(), EditorLossConfig(), Doubles(), Doubles())
    by_hand = {
        "latent": 4 / 4,
        "latent_mouth": (0.5 * 1 + 3) / 3,
        "pixel_mouth": 0.4 * 4 / 10,
        "pixel_lips": 0.4,
        "features": 0.8 / 4 + 2 * 0.2,
        "face_features": 0.8 / 4 + 2 * 0.2,
    }
    for name, value in by_hand.items():
        assert losses[name].item() == pytest.approx(value), name
    total = 0.1 * 1 + 0.1 * 3.5 / 3 + 10 * 0.16 + 100 * 0.4 + 50 * 0.6 + 5 * 0.6
    assert losses["loss"].item() == pytest.approx(total)


def test_without_a_network_its_loss_is_left_out():
    losses = editor_losses(edited(), EditorLossConfig())
    assert losses.keys() == {"loss", "latent", "latent_mouth", "pixel_mouth", "pixel_lips"}


@pytest.mark.parametrize(("depth", "last"), [(16, 24), (19, 28)])
def test_a_vgg_has_torchvisions_names(depth, last):
    with torch.device("meta"):
        network = FeatureNetwork(depth)
        maps = network(torch.empty(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4)
    ]  # fmt: skip
    names = [name for name, _ in network.named_parameters()]
    assert names[0] == "features.0.weight" and names[-1] == f"features.{last}.bias"
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_vgg_weights_are_found_in_a_file(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setattr(features, "WIDTHS", (2, 3, 4, 5, 6))
    torch.manual_seed(0)
    published = FeatureNetwork(19).state_dict() | {
        "features.34.weight": torch.zeros(1),
        "classifier.0.bias": torch.ones(2),
    }
    save_file(published, tmp_path / "vgg.safetensors")
    loaded = load_features(str(tmp_path / "vgg.safetensors"))
    assert loaded is not None and torch.equal(loaded.features[0].weight, published["features.0.weight"])
    grey = torch.full((1, 3, 16, 16), 0.2)
    first = torch.nn.functional.conv2d(
        ((grey + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None],
        published["features.0.weight"],
        published["features.0.bias"],
        padding=1,
    ).relu()
    torch.testing.assert_close(loaded(grey)[0], first)
    del published["features.5.bias"]
    save_file(published, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"not the weights of a VGG.*features\.5\.bias") as caught:
        load_features(str(tmp_path / "less.safetensors"))
    assert caught.value.exit_code == 5
    assert load_features("") is None
