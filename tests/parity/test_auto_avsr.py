"""Our lip reader against figures that the published Auto-AVSR code computed with made-up weights."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.vsr.conformer import ConformerEncoder
from lipsync_cli.networks.vsr.convert import from_published, to_older_layout
from lipsync_cli.networks.vsr.decoder import TransformerDecoder
from lipsync_cli.networks.vsr.frontend import VisualFrontend
from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig

pytestmark = pytest.mark.parity

HERE = Path(__file__).parent
TOLERANCE = 1e-4  # relative


@pytest.fixture(scope="module")
def figures():
    return load_file(HERE / "auto_avsr_tiny.safetensors")


@torch.no_grad()
def fill(module: torch.nn.Module) -> torch.nn.Module:
    """The weights the figures were made with: sines of the position in the tensor and of the sorted name."""
    state = module.state_dict()
    for j, name in enumerate(sorted(state)):
        tensor = state[name]
        if tensor.dtype != torch.float32:
            continue
        i = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        s = torch.sin(1 + 0.618 * i + j)
        if name.endswith("running_var"):
            s = 1 + 0.5 * s**2
        elif name.endswith("running_mean"):
            s = 0.1 * s
        elif tensor.ndim >= 2:
            s = s / math.sqrt(tensor[0].numel())
        elif name.endswith("weight"):
            s = 1 + 0.1 * s
        else:
            s = 0.1 * s
        tensor.copy_(s)
    return module.eval()


def relative_error(ours: torch.Tensor, published: torch.Tensor) -> float:
    assert ours.shape == published.shape
    return float((ours - published).norm() / published.norm())


@torch.no_grad()
def test_front_end(figures):
    assert relative_error(fill(VisualFrontend())(figures["frontend.in"]), figures["frontend.out"]) < TOLERANCE


@torch.no_grad()
def test_conformer_with_a_padded_second_clip(figures):
    real = figures["encoder.mask"][:, 0]
    assert not real.all()
    encoder = fill(ConformerEncoder(48, 4, 96, 2, kernel_frames=7, padding_leaks=True))
    assert relative_error(encoder(figures["encoder.in"], real), figures["encoder.out"]) < TOLERANCE


@torch.no_grad()
def test_conformer_that_keeps_padding_out_differs_only_in_the_padded_clip(figures):
    real = figures["encoder.mask"][:, 0]
    ours = fill(ConformerEncoder(48, 4, 96, 2, kernel_frames=7))(figures["encoder.in"], real)
    assert relative_error(ours[0], figures["encoder.out"][0]) < TOLERANCE
    assert relative_error(ours[1, :8], figures["encoder.out"][1, :8]) > 10 * TOLERANCE


@torch.no_grad()
def test_decoder(figures):
    decoder = fill(TransformerDecoder(13, 48, 4, 96, 2))
    real = figures["encoder.mask"][:, 0]
    ours = decoder(figures["decoder.tokens"], figures["encoder.out"], real)
    assert relative_error(ours, figures["decoder.out"]) < TOLERANCE


def test_every_published_name_and_shape_at_full_size():
    published = json.loads((HERE / "auto_avsr_video_keys.json").read_text())
    with torch.device("meta"):
        model = LipReader(LipReaderConfig())
    assert len(published) == 767
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == published


def test_small_modules_have_the_published_names():
    published = json.loads((HERE / "auto_avsr_tiny_keys.json").read_text())
    modules = {
        "frontend": VisualFrontend(),
        "encoder": ConformerEncoder(48, 4, 96, 2, kernel_frames=7),
        "decoder": TransformerDecoder(13, 48, 4, 96, 2),
    }
    assert modules.keys() == published.keys()
    for part, module in modules.items():
        assert {name: list(t.shape) for name, t in module.state_dict().items()} == published[part]


def test_older_layout_maps_both_ways_at_full_size():
    published = json.loads((HERE / "auto_avsr_video_keys.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in published.items()}
    older = to_older_layout(state)
    moved = {name for name in older if name not in state}
    assert len(older) == 767
    assert {name.split(".")[1] for name in moved} == {"frontend", "embed"}
    assert {name: t.shape for name, t in from_published(older).items()} == {
        name: t.shape for name, t in state.items()
    }
    with torch.device("meta"):
        load_strictly(LipReader(LipReaderConfig()), from_published(older), "model.pth")
