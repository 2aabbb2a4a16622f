"""Frozen networks whose features the editor's pictures are compared in (eq. 7 and 8).

Shapes: N pictures (N, 3, H, W), −1…1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import load_model_folder, read_weights

# Convolutions of each of five sizes, by how many there are in all (Simonyan and Zisserman 2015).
VGG_SIZES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pictures of 0…1


class FeatureNetwork(nn.Module):
    """VGG-16 or 19 up to the first activation of the last size; torchvision's names, frozen.

    Gives the first activation of each size, relu1_1 … relu5_1: the paper names the network and not the layers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, depth: int = 19) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        before = 3
        for size, (count, width) in enumerate(zip(VGG_SIZES[depth], WIDTHS, strict=True)):
            self.taps.append(len(layers) + 1)
            for _ in range(count if size < 4 else 1):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Five maps of (N, width, H / 2^k, W / 2^k)."""
        x, found = ((x + 1) / 2 - self.mean) / self.std, []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.taps:
                found.append(x)
        return found


def load_features(source: str) -> FeatureNetwork | None:
    """source: a catalogue name, a file of weights under torchvision's names, or "" for none.

    Raises: WeightsError when the weights are not VGG-16's or 19's.
    """
    if not source:
        return None
    path = Path(source)
    if not path.is_file():
        path = next(iter(load_model_folder(source).files.values()))
    published = read_weights(path)
    depth = 19 if "features.34.weight" in published else 16
    network = FeatureNetwork(depth)
    network.load_state_dict(_chosen(network, published, path))
    return network


def _chosen(network: nn.Module, published: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The network's own weights out of the published ones, whose later layers are not needed."""
    own = network.state_dict()
    wrong = [name for name in own if name not in published or published[name].shape != own[name].shape]
    if wrong:
        raise WeightsError(f"{path}: not the weights of a VGG: '{wrong[0]}'.", "lipsync models list")
    return {name: published[name] for name in own}
