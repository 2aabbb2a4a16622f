"""The small editor: what moves, what is blended, what is left alone."""

import numpy as np
import pytest
import torch

from lipsync_cli.networks.flashlips.warp_editor import WarpEditor, WarpEditorConfig, fuse

SMALL = WarpEditorConfig(side_px=32, lips_numbers=5, channels=(4, 8, 8), flow_channels=(4, 8), blocks=1)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(3)


def shaken(editor: WarpEditor, draw: torch.Generator) -> WarpEditor:
    """No layer starts from zero: every path matters."""
    for parameter in editor.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return editor.eval()


def pictures(*shape: int, draw: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=draw) * 2 - 1


def test_nothing_outside_the_hole_is_touched(draw):
    editor = shaken(WarpEditor(SMALL), draw)
    frames, holes = pictures(2, 3, 32, 32, draw=draw), torch.zeros(2, 1, 32, 32)
    holes[:, :, 10:20, 8:24] = 1
    references = editor.look(pictures(2, 3, 3, 32, 32, draw=draw), torch.randn(2, 3, 5, generator=draw))
    drawn = editor(frames, holes, references, torch.randn(2, 5, generator=draw)).picture
    outside = (holes == 0).expand_as(frames)
    assert torch.equal(drawn[outside], frames[outside])
    assert not torch.allclose(drawn[~outside], frames[~outside], atol=0.05)


def test_what_is_in_the_hole_is_not_seen(draw):
    editor = shaken(WarpEditor(SMALL), draw)
    holes = torch.ones(1, 1, 32, 32)
    references = editor.look(pictures(1, 2, 3, 32, 32, draw=draw), torch.randn(1, 2, 5, generator=draw))
    lips = torch.randn(1, 5, generator=draw)
    one, other = (
        editor(pictures(1, 3, 32, 32, draw=draw), holes, references, lips).picture for _ in range(2)
    )
    assert torch.allclose(one, other, atol=1e-5)


def test_an_untrained_editor_shows_the_mean_of_its_references(draw):
    editor = WarpEditor(SMALL).eval()
    images = pictures(1, 4, 3, 64, 64, draw=draw)  # twice the network's side
    references = editor.look(images, torch.zeros(1, 4, 5))
    drawn = editor(torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64), references, torch.zeros(1, 5)).picture
    torch.testing.assert_close(drawn, images.mean(1), atol=1e-5, rtol=0)


def test_the_order_of_references_does_not_matter(draw):
    editor = shaken(WarpEditor(SMALL), draw)
    images, lips = pictures(1, 3, 3, 32, 32, draw=draw), torch.randn(1, 3, 5, generator=draw)
    frame, hole, wanted = (
        pictures(1, 3, 32, 32, draw=draw),
        torch.ones(1, 1, 32, 32),
        torch.randn(1, 5, generator=draw),
    )
    one = editor(frame, hole, editor.look(images, lips), wanted).picture
    turned = [2, 0, 1]
    other = editor(frame, hole, editor.look(images[:, turned], lips[:, turned]), wanted).picture
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_picked_references_are_those_given_alone(draw):
    editor = shaken(WarpEditor(SMALL), draw)
    images, lips = pictures(1, 5, 3, 32, 32, draw=draw), torch.randn(1, 5, 5, generator=draw)
    frames, holes = pictures(2, 3, 32, 32, draw=draw), torch.ones(2, 1, 32, 32)
    wanted = torch.randn(2, 5, generator=draw)
    chosen = torch.tensor([[4, 1], [0, 3]])
    together = editor(frames, holes, editor.look(images, lips).pick(chosen), wanted).picture
    for n in range(2):
        alone = editor.look(images[:, chosen[n]], lips[:, chosen[n]])
        single = editor(frames[n : n + 1], holes[n : n + 1], alone, wanted[n : n + 1]).picture
        torch.testing.assert_close(together[n : n + 1], single, atol=1e-5, rtol=0)


def test_a_flow_moves_pixels_by_what_it_says():
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, 1, 8, 8), np.float32))
    flow = torch.zeros(1, 1, 2, 8, 8)
    flow[:, :, 0] = 2 * 3 / 8  # three pixels to the right in units where the side is 2
    flow[:, :, 1] = -2 * 1 / 8
    moved = fuse(image, flow, torch.ones(1, 1, 1, 8, 8))[0, 0]
    for y in range(1, 8):
        for x in range(5):
            assert moved[y, x] == pytest.approx(float(image[0, 0, 0, y - 1, x + 3]), abs=1e-6)


def test_flows_may_be_coarser_than_pictures():
    image = torch.from_numpy(np.random.default_rng(0).random((1, 2, 3, 16, 16), np.float32))
    weights = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4)
    mixed = fuse(image, torch.zeros(1, 2, 2, 4, 4), weights)
    torch.testing.assert_close(mixed, 0.25 * image[:, 0] + 0.75 * image[:, 1], atol=1e-6, rtol=0)
