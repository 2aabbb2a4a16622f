"""LPIPS: how different two pictures look to a person, from features of AlexNet or VGG-16.

Zhang, Isola, Efros, Shechtman, Wang 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", §3,
equation 1, version 0.1 of the published weights. Convolutions have torchvision's names (`features.N`).

Shapes: N pictures, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lipsync_cli.core.config import build_config
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder, read_weights
from lipsync_cli.networks.blocks.weights import load_strictly

NETWORK = "lpips"
PUBLISHED_VGG = "auxiliary/vgg16-397923af.pth"  # torchvision's checkpoint, in a repository of LatentSync
VGG_HEADS = "vgg_heads.safetensors"
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet, for pictures of −1…1
# VGG-16's channels, M where maps are halved; the last M is not needed
VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


@dataclass(frozen=True)
class LPIPSConfig:
    """backbone: "alex" judges pictures best; "vgg" is the better loss to train with (the authors' advice)."""

    backbone: Literal["alex", "vgg"] = "alex"


class LPIPS(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, config: LPIPSConfig) -> None:
        super().__init__()
        self.config = config
        self.features = alexnet() if config.backbone == "alex" else vgg16()
        self._taps = (1, 4, 7, 9, 11) if config.backbone == "alex" else (3, 8, 15, 22, 29)
        widths = (64, 192, 384, 256, 256) if config.backbone == "alex" else (64, 128, 256, 512, 512)
        self.heads = nn.ParameterList(nn.Parameter(torch.ones(width)) for width in widths)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances, 0 for equal pictures: (N, 3, H, W) RGB in −1…1, twice → (N,) float32. Differentiable."""
        total = torch.zeros(len(x), device=x.device)
        for head, a, b in zip(self.heads, self.maps(x), self.maps(y), strict=True):
            difference = (unit(a) - unit(b)).square()
            total = total + torch.einsum("nchw,c->nhw", difference, head.float()).mean((1, 2))
        return total

    def maps(self, x: Tensor) -> list[Tensor]:
        """Features after the last activation of each size (AlexNet: of each layer): five of (N, C, H', W')."""
        maps, found = (x - self.mean) / self.std, []
        for place, layer in enumerate(self.features):
            maps = layer(maps)
            if place in self._taps:
                found.append(maps)
        return found


def unit(maps: Tensor) -> Tensor:
    """Each place's features as a unit vector, in float32.

    # differs from the published code: where all features are 0 the gradient is 0, not undefined.
    """
    maps = maps.float()
    return maps / (maps.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt() + 1e-10)


def alexnet() -> nn.Sequential:
    """AlexNet's convolutions, torchvision's version (Krizhevsky 2014, one column)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """VGG-16's convolutions (Simonyan and Zisserman 2015, column D)."""
    layers, before = [], 3
    for width in VGG:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return nn.Sequential(*layers)


def load_lpips(folder: ModelFolder) -> LPIPS:
    """LPIPS of a model folder, frozen, in evaluation mode on the CPU, in float32 however it is stored.

    The published VGG-16 has no heads beside it: those travel with lipsync, in `lpips-alex`.
    Raises: WeightsError when the weights are missing, damaged or of another network.
    """
    if PUBLISHED_VGG in folder.files:
        config, source = LPIPSConfig("vgg"), folder.file(PUBLISHED_VGG)
        state = {name: t for name, t in read_weights(source).items() if name.startswith("features.")}
        state |= read_weights(load_model_folder("lpips-alex", network=NETWORK).file(VGG_HEADS))
    else:
        config = build_config(folder.config, LPIPSConfig, source=str(folder.path / "config.json"))
        source = folder.weights
        state = read_weights(source)
    network = LPIPS(config)
    load_strictly(network, state, source)
    return network.requires_grad_(False).eval()
