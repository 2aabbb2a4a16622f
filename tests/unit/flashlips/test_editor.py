"""The editor against tables A.1 and A.2, and its blocks against those of diffusers."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D

from lipsync_cli.networks.flashlips.editor import (
    EditorConfig,
    GridTransformer,
    LatentEditor,
    ResNet2D,
    TransformerBlock,
    UNet,
)

SMALL = EditorConfig(
    reference_channels=6, lips_numbers=3, channels=(8, 16, 24), blocks=2, groups=4, stem=8, width=16, depth=2,
    heads=4, reference_width=8, reference_blocks=1,
)  # fmt: skip
KINDS = ("unet", "transformer")


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def block_size(inputs: int, outputs: int) -> int:
    """Weights of GN, 3 × 3, GN, 3 × 3, and of the 1 × 1 shortcut where widths differ."""
    shortcut = inputs * outputs + outputs if inputs != outputs else 0
    return 2 * inputs + 9 * inputs * outputs + outputs + 2 * outputs + 9 * outputs**2 + outputs + shortcut


def test_the_unet_is_table_a1_row_by_row():
    with torch.device("meta"):
        unet = UNet(EditorConfig())
        x = torch.empty(1, 52, 64, 64)
    rows = []
    for block in (unet.input, *unet.down, unet.middle):
        block.register_forward_hook(lambda _, inputs, output: rows.append((inputs[0].shape, output.shape)))
    ups = []
    for block in unet.up:
        block.register_forward_hook(lambda _, inputs, output: ups.append((inputs[0].shape, output.shape)))
    assert unet(x).shape == (1, 4, 64, 64)
    shapes = [(int(i[1]), int(o[1]), int(o[2])) for i, o in rows]
    assert shapes == [
        (52, 384, 64),
        *[(384, 384, 64)] * 4, (384, 384, 32),
        (384, 512, 32), *[(512, 512, 32)] * 3, (512, 512, 16),
        (512, 640, 16), *[(640, 640, 16)] * 3,
        (640, 640, 16),
    ]  # fmt: skip
    firsts = [ups[place] for place in (0, 6, 12)]
    assert [(int(i[1]), int(o[1])) for i, o in firsts] == [(1280, 640), (1152, 512), (896, 384)]
    ends = [ups[place][1] for place in (5, 11, 17)]
    assert [(int(o[1]), int(o[2])) for o in ends] == [(640, 32), (512, 64), (384, 64)]
    assert len(ups) == 18  # 5 + 1 blocks a level, the last level's sixth does nothing


def test_what_the_tables_count_to():
    """The paper says 250 M and 300 M. Its tables, which leave out f_ref, give 211.2 M and 268.9 M; see the README."""
    with torch.device("meta"):
        editors = [LatentEditor(EditorConfig(kind=kind)) for kind in KINDS]
    b = block_size
    down = 5 * b(384, 384) + b(384, 512) + 4 * b(512, 512) + b(512, 640) + 3 * b(640, 640)
    up = 4 * b(1280, 640) + b(1152, 640) + b(640, 640)
    up += b(1152, 512) + 3 * b(1024, 512) + b(896, 512) + b(512, 512)
    up += b(896, 384) + 4 * b(768, 384)
    ends = 9 * 52 * 384 + 384 + 2 * 384 + 9 * 384 * 4 + 4
    assert count(editors[0].backbone) == down + 2 * b(640, 640) + up + ends
    assert count(editors[0].backbone) / 1e6 == pytest.approx(211.2, abs=0.1)
    layer = 2 * 2 * 1024 + 3 * 1024**2 + (1024**2 + 1024) + (1024 * 8192 + 8192) + (4096 * 1024 + 1024)
    ends = (52 * 128 + 128) + 2 * 128 + (128 * 1024 + 1024) + (1024 * 128 + 128) + (128 * 4 + 4)
    assert count(editors[1].backbone) == 16 * layer + ends
    assert count(editors[1].backbone) / 1e6 == pytest.approx(268.9, abs=0.1)
    for editor, published in zip(editors, (250e6, 300e6), strict=True):
        assert count(editor.reference) == count(editors[0].reference)
        assert count(editor) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_it_returns_what_it_was_given(kind):
    editor = LatentEditor(replace(SMALL, kind=kind))
    z = torch.randn(2, 4, 8, 8)
    assert torch.equal(editor(z, torch.randn(2, 4, 8, 8), torch.randn(2, 3)), z)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_with_a_residual(kind):
    """Equation 3: with the last layer's weights at 0 and its bias at b, ẑ_src = z_masked + b."""
    editor = LatentEditor(replace(SMALL, kind=kind))
    bias = torch.tensor([1.0, -2.0, 3.0, 0.5])
    editor.backbone.output[-1].bias.data.copy_(bias)
    z = torch.randn(1, 4, 8, 8)
    out = editor(z, torch.randn(1, 4, 8, 8), torch.randn(1, 3))
    torch.testing.assert_close(out - z, bias[None, :, None, None].expand_as(z))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_read_and_learns(kind):
    torch.manual_seed(0)
    editor = LatentEditor(replace(SMALL, kind=kind))
    torch.nn.init.normal_(editor.backbone.output[-1].weight)
    inputs = [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 3)]
    before = editor(*inputs)
    for place in range(3):
        changed = list(inputs)
        changed[place] = torch.randn_like(inputs[place])
        assert (editor(*changed) - before).abs().amax() > 1e-3
    before.square().mean().backward()
    assert all(parameter.grad is not None for parameter in editor.parameters())


def test_one_reference_serves_many_frames():
    editor = LatentEditor(SMALL)
    torch.nn.init.normal_(editor.backbone.output[-1].weight)
    z, reference, lips = torch.randn(3, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.randn(3, 3)
    once = editor.edit(z, editor.reference(reference), lips)
    each = editor(z, reference.expand(3, -1, -1, -1), lips)
    torch.testing.assert_close(once, each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("resize", "kind"), [("", {}), ("half", {"down": True}), ("double", {"up": True})])
def test_a_resnet_block_is_diffusers(resize, kind):
    torch.manual_seed(0)
    ours = ResNet2D(8, 16, 4, resize)
    theirs = ResnetBlock2D(in_channels=8, out_channels=16, groups=4, eps=1e-5, temb_channels=None, **kind)
    names = {
        "norm1": "norm1",
        "conv1": "conv1",
        "norm2": "norm2",
        "conv2": "conv2",
        "conv_shortcut": "shortcut",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            key: state[f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"]
            for key in theirs.state_dict()
        }
    )
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x, None))


def test_a_transformer_block_is_diffusers():
    torch.manual_seed(0)
    ours = TransformerBlock(16, 4)
    theirs = BasicTransformerBlock(16, 4, 4, activation_fn="geglu", attention_bias=False)
    q, k, v = ours.qkv.weight.chunk(3)
    state = {
        "norm1.weight": ours.norm1.weight, "norm1.bias": ours.norm1.bias, "attn1.to_q.weight": q,
        "attn1.to_k.weight": k, "attn1.to_v.weight": v, "attn1.to_out.0.weight": ours.out.weight,
        "attn1.to_out.0.bias": ours.out.bias, "norm3.weight": ours.norm2.weight, "norm3.bias": ours.norm2.bias,
        "ff.net.0.proj.weight": ours.gate.weight, "ff.net.0.proj.bias": ours.gate.bias,
        "ff.net.2.weight": ours.down.weight, "ff.net.2.bias": ours.down.bias,
    }  # fmt: skip
    theirs.load_state_dict(state)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_grid_comes_back_in_its_place():
    """A Transformer without attention or MLP maps every place by itself: tokens are neither mixed nor turned."""
    torch.manual_seed(0)
    grid = GridTransformer(replace(SMALL, depth=0))
    torch.nn.init.normal_(grid.output[-1].weight)
    x = torch.randn(1, 13, 4, 6)
    changed = x.clone()
    changed[..., 1, 4] += torch.randn(13)
    grid.input[1] = torch.nn.Identity()  # the norm sees the whole grid
    moved = (grid(changed) - grid(x)).abs().amax(1)[0] > 1e-6
    assert moved.nonzero().tolist() == [[1, 4]]
