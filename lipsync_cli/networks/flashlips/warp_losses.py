"""The losses of the small editor: reconstruction only, as in the paper (§3.1.3), with what punishes blur.

# differs from the paper's eq. 9: there are no latents; slopes and LPIPS stand for its VGG features

Shapes: N frames, pictures (N, 3, S, S) in −1…1, holes (N, 1, S, S).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lipsync_cli.networks.blocks.lpips import LPIPS
from lipsync_cli.networks.flashlips.tiny import MOUTH_X, MOUTH_Y, cut_mouths
from lipsync_cli.networks.flashlips.warp_editor import Drawn


@dataclass(frozen=True)
class WarpLossConfig:
    """picture: mean error in the hole.  edges: of its slopes, which blur lacks.  moved: of the moved references alone.

    painted: of what is added to them: on faces that were not trained on it is wrong more often.  lpips: of the mouth's
    square (AlexNet).  smooth: of the flows.  mouth: how much more the middle of the mouth counts.  lips_noise: added to
    lips numbers in training.
    """

    picture: float = 1.0
    edges: float = 1.5
    moved: float = 0.5
    painted: float = 0.3
    lpips: float = 0.3
    smooth: float = 0.02
    mouth: float = 3.0
    lips_noise: float = 0.1


def mouth_losses(
    truth: Tensor, hole: Tensor, drawn: Drawn, config: WarpLossConfig, judge: LPIPS
) -> dict[str, Tensor]:
    """The reconstruction losses, counted in the hole and more so on the lips.  truth: (N, 3, S, S).  hole: (N, 1, S, S)."""
    weight = hole * (1 + config.mouth * mouth_weight(truth.shape[-1]).to(truth))
    total = weight.sum() * 3
    picture = ((drawn.picture - truth).abs() * weight).sum() / total
    moved = ((drawn.moved - truth).abs() * weight).sum() / total
    painted = ((drawn.picture - drawn.moved).abs() * weight).sum() / total
    edges = sum(
        (slopes(F.avg_pool2d(drawn.picture - truth, k), weight[..., ::k, ::k]) for k in (1, 2)),
        torch.zeros(()),
    )
    smooth = drawn.flows.diff(dim=-1).abs().mean() + drawn.flows.diff(dim=-2).abs().mean()
    smooth = smooth * drawn.flows.shape[-1] ** 2 / 100
    pair = torch.cat([drawn.picture, truth.to(drawn.picture)])
    lpips = judge(*cut_mouths(pair, 2 * truth.shape[-1] // 3).chunk(2)).mean()
    loss = config.picture * picture + config.edges * edges + config.moved * moved + config.smooth * smooth
    loss = loss + config.lpips * lpips + config.painted * painted
    return {
        "loss": loss,
        "picture": picture,
        "edges": edges,
        "moved": moved,
        "painted": painted,
        "lpips": lpips,
        "smooth": smooth,
    }


def slopes(error: Tensor, weight: Tensor) -> Tensor:
    """Mean size of the error's slopes."""
    across = (error.diff(dim=-1).abs() * weight[..., 1:]).sum() + (
        error.diff(dim=-2).abs() * weight[..., 1:, :]
    ).sum()
    return across / (weight.sum() * 6)


def mouth_weight(side_px: int) -> Tensor:
    """(S, S), 1 in the middle of the mouth, falling off as a bell."""
    place = (torch.arange(side_px) + 0.5) / side_px
    x, y = (place - MOUTH_X) / 0.2, (place - MOUTH_Y) / 0.14
    return torch.exp(-0.5 * (x[None] ** 2 + y[:, None] ** 2))
