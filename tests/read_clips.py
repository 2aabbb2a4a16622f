"""Short clips with a mouth that speaks, and a lip reader that has learnt nothing."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.media.frames import read_frames
from lipsync_cli.media.write import write_video

EXAMPLE = Path(__file__).parents[1] / "examples/talking_photo.mp4"


def write_speaking_clip(path: Path, *, seconds: float = 2.0, faces: int = 1) -> Path:
    """The first seconds of the example, as often side by side as there are faces."""
    images = [frame.image for frame in read_frames(EXAMPLE, long_side_px=240, end=Fraction(seconds))]
    write_video(path, (np.hstack([image] * faces) for image in images), Fraction(25))
    return path


def write_published_reader(folder: Path) -> Path:
    """The two files that Auto-AVSR weights are published as: every name, in the older layout, but small and random."""
    import torch

    from lipsync_cli.networks.vsr.convert import to_older_layout
    from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig

    units = ["<blank>", "<unk>", "'", "▁RED", "▁NOW", "▁N", "O", "W", "S", "<eos>"]
    sizes = {"adim": 16, "aheads": 2, "eunits": 24, "elayers": 12, "dlayers": 6, "cnn_module_kernel": 31}
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    reader = LipReader(LipReaderConfig(len(units), width=16, heads=2, ffn_width=24))
    torch.save(to_older_layout(reader.state_dict()), folder / "model.pth")
    (folder / "model.json").write_text(json.dumps([88 * 88, len(units), {**sizes, "char_list": units}]))
    return folder


def write_random_reader(folder: Path, **preprocess) -> Path:
    """A reader of GRID's words with random weights, as a model folder."""
    import torch

    from lipsync_cli.hub.model_folder import write_model_folder
    from lipsync_cli.networks.vsr.grammar import GRID_WORDS
    from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig
    from lipsync_cli.networks.vsr.units import Units

    units = Units.words(GRID_WORDS)
    sizes = {"frontend_width": 2, "width": 16, "heads": 2, "ffn_width": 16, "kernel_frames": 3}
    config = {"units": len(units), "encoder_blocks": 1, "decoder_blocks": 1, **sizes}
    torch.manual_seed(0)
    reader = LipReader(LipReaderConfig(**config))
    torch.nn.init.constant_(reader.ctc.ctc_lo.bias[0], 2.0)  # mostly blank, so that sentences are short
    write_model_folder(
        folder,
        network="vsr",
        config={**config, "unit_names": list(units.names)},
        preprocess={
            "mouth": {"face_px": 96, "height_px": 36, "width_px": 60},
            "window_frames": 75,
            "decode": {"ctc_weight": 0.5, "candidates": 0},
            **preprocess,
        },
        weights=reader.state_dict(),
        licence="CC0-1.0",
    )
    return folder
