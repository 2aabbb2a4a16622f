import pytest
import torch

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.vsr.convert import from_published, to_older_layout


@pytest.fixture
def reader(tiny_reader):
    return tiny_reader(reads="video", token_width=0, frontend_width=2)


@torch.no_grad()
def test_older_weights_read_the_same(reader, tiny_reader):
    older = to_older_layout(reader.state_dict())
    assert "encoder.frontend.trunk.layer1.0.conv1.weight" in older
    assert "encoder.embed.0.weight" in older
    other = tiny_reader(reads="video", token_width=0, frontend_width=2)
    for parameter in other.parameters():
        parameter.zero_()
    load_strictly(other, from_published(older), "model.pth")
    video = torch.randn(1, 3, 1, 32, 32)
    assert torch.equal(other.encode(video)[0], reader.encode(video)[0])


def drop(state):
    del state["encoder.after_norm.bias"]


def add(state):
    state["encoder.extra.weight"] = torch.zeros(1)


def reshape(state):
    state["proj_encoder.weight"] = torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop, r"lack 'encoder\.after_norm\.bias' \(1 missing\)"),
        (add, r"hold 'encoder\.extra\.weight'.*\(1 unknown\)"),
        (reshape, r"'proj_encoder\.weight' is \[3, 3\] where \[16, 16\] is wanted"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(reader, spoil, words):
    before = {name: tensor.clone() for name, tensor in reader.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in reader.state_dict().items()}
    spoil(state)
    with pytest.raises(WeightsError, match=words) as caught:
        load_strictly(reader, state, "model.pth")
    assert caught.value.exit_code == 5
    assert all(torch.equal(before[name], tensor) for name, tensor in reader.state_dict().items())


def test_both_layouts_at_once_are_refused(reader):
    state = reader.state_dict()
    with pytest.raises(WeightsError, match="two layouts"):
        from_published({**state, **to_older_layout(state)})


def test_training_checkpoints_are_unwrapped(reader):
    wrapped = {"state_dict": {f"model.{name}": t for name, t in reader.state_dict().items()}, "epoch": 3}
    assert from_published(wrapped).keys() == reader.state_dict().keys()
