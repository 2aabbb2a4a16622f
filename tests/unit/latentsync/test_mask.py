import json
from pathlib import Path

import pytest
import torch

from lipsync_cli.networks.latentsync.mask import fixed_mask, latent_mask

FIGURE = Path(__file__).parents[2] / "parity" / "latentsync_mask.json"


def test_every_pixel_is_the_published_one():
    published = json.loads(FIGURE.read_text())
    expected = torch.ones(1, published["size"], published["size"])
    for row, runs in published["rows"]:
        for first, last in runs:
            expected[0, row, first : last + 1] = 0
    assert torch.equal(fixed_mask(256), expected)


def test_one_keeps_and_the_mouth_is_made_anew():
    mask = fixed_mask(256)[0]
    assert mask[0].all() and mask[-1].all() and mask[:, 0].all()
    assert mask[180, 128] == 0  # lips
    assert mask[110, 128] == 1  # nose, between the squares
    assert float((mask == 0).float().mean()) == pytest.approx(0.407, abs=5e-4)
    rows, columns = (mask == 0).nonzero().T
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (9, 247, 95, 242)


def test_the_large_mask_covers_the_same():
    large = fixed_mask(512)[0]
    assert float(1 - large.mean()) == pytest.approx(0.407, abs=2e-3)
    assert large.min() == 0 and large.max() == 1
    assert large[360, 256] == 0 and large[20, 256] == 1


@pytest.mark.parametrize("size_px", [256, 512])
def test_latents_take_the_pixel_at_their_corner(size_px):
    assert torch.equal(latent_mask(size_px)[0], fixed_mask(size_px)[0, ::8, ::8])
