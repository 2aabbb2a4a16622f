"""The decoder: where things are put, and that every prompt is listened to."""

import math

import pytest
import torch
from torch import nn

from lipsync_cli.networks.synclipmae.decoder import DecoderConfig, PromptDecoder, sincos_position

SIZES = DecoderConfig(width=16, layers=2, heads=2)


def decoder() -> PromptDecoder:
    torch.manual_seed(0)
    return PromptDecoder(SIZES, encoder_width=12, num_patches=9, patch_values=5).eval()


def test_positions_are_maes():
    table = sincos_position(9, 16)
    for patch in range(9):
        row, column = divmod(patch, 3)
        wanted = []
        for along in (column, row):  # as in MAE, columns first
            angles = [along / 10_000 ** (i / 4) for i in range(4)]
            wanted += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert table[patch].tolist() == pytest.approx(wanted, abs=1e-6)


def test_visible_patches_are_put_back_in_their_places():
    network = decoder()
    network.blocks = nn.ModuleList()  # what goes in comes out: places only
    network.norm = network.head = nn.Identity()
    patches, visible = torch.randn(2, 3, 12), torch.tensor([[0, 4, 8], [7, 2, 5]])
    restored = network(patches, visible, torch.randn(2, 3, 12))
    for n in range(2):
        for place in range(9):
            seen = (visible[n] == place).nonzero().flatten().tolist()
            token = network.embed(patches[n, seen[0]]) if seen else network.mask_token
            torch.testing.assert_close(restored[n, place], token + network.position[place])


@pytest.mark.parametrize("prompt", [0, 1, 2], ids=["identity", "ambient", "condition"])
def test_each_prompt_reaches_every_patch(prompt):
    network, patches, visible = decoder(), torch.randn(1, 3, 12), torch.tensor([[0, 4, 8]])
    prompts = torch.randn(1, 3, 12, requires_grad=True)
    restored = network(patches, visible, prompts)
    for patch in range(9):
        (gradient,) = torch.autograd.grad(restored[0, patch].sum(), prompts, retain_graph=True)
        assert gradient[0, prompt].abs().max() > 1e-6


def test_patches_see_each_other():
    network, visible, prompts = decoder(), torch.tensor([[0, 4, 8]]), torch.randn(1, 3, 12)
    patches = torch.randn(1, 3, 12, requires_grad=True)
    network(patches, visible, prompts)[0, 1].sum().backward()  # patch 1 is hidden
    assert patches.grad is not None and (patches.grad.abs().amax(-1) > 1e-7).all()


def test_a_block_is_self_attention_then_cross_attention_then_mlp():
    block = decoder().blocks[0]
    x, prompts = torch.randn(2, 9, 16), torch.randn(2, 3, 16)

    def attend(q, k, v):
        out = []
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            weights = (q[..., part] @ k[..., part].transpose(1, 2) / 8**0.5).softmax(-1)
            out.append(weights @ v[..., part])
        return torch.cat(out, -1)

    y = x + block.proj(attend(*block.qkv(block.norm1(x)).chunk(3, -1)))
    y = y + block.cross_proj(
        attend(block.cross_q(block.norm_cross(y)), *block.cross_kv(prompts).chunk(2, -1))
    )
    y = y + block.mlp(block.norm2(y))
    torch.testing.assert_close(block(x, prompts), y, atol=1e-5, rtol=1e-5)
