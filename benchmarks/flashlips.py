"""How many frames a second FlashLips draws at the paper's sizes, as in its table 2: 5 runs to warm up, then the mean of 10.

    python benchmarks/flashlips.py                        # both editors, 512 px, on the best device
    python benchmarks/flashlips.py --frames 32 --device cuda:0 --json

The weights are random: speed does not depend on them. A frame is encoded by the SDXL VAE (its own sizes), edited in one
pass and decoded; the reference's features are made once for the clip, lips numbers are given. bfloat16 on a GPU.

The paper, on one H100: 109.4 frames a second with the U-Net, 66.8 with the Transformer.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lipsync_cli.core.device import resolve_device
from lipsync_cli.networks.flashlips.autoencoder import SdxlVae
from lipsync_cli.networks.flashlips.editor import EditorConfig, LatentEditor

PUBLISHED = {"unet": 109.41, "transformer": 66.84}
WARM_UP, RUNS = 5, 10


def sdxl_vae() -> SdxlVae:
    """The SDXL VAE's sizes: 83.7 M weights, stride 8."""
    widths = (128, 256, 512, 512)
    return SdxlVae(
        AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            sample_size=1024,
        )
    )


@torch.inference_mode()
def frames_per_second(kind: str, frames: int, batch: int, side_px: int, device: torch.device) -> float:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    vae = sdxl_vae().to(device, dtype)
    editor = LatentEditor(EditorConfig(kind=kind)).to(device, dtype).eval()
    clip = torch.rand(frames, 3, side_px, side_px, device=device, dtype=dtype) * 2 - 1
    lips = torch.randn(frames, 12, device=device, dtype=dtype)
    features = editor.reference(vae.encode(clip[:1]))

    def run() -> None:
        for part in (slice(k, k + batch) for k in range(0, frames, batch)):
            vae.decode(editor.edit(vae.encode(clip[part]), features, lips[part]))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP):
        run()
    started = time.perf_counter()
    for _ in range(RUNS):
        run()
    return RUNS * frames / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=100, help="of the clip")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side-px", type=int, default=512)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    device = resolve_device(asked.device)
    for kind, published in PUBLISHED.items():
        measured = frames_per_second(kind, asked.frames, asked.batch, asked.side_px, device)
        if asked.json:
            print(json.dumps({"editor": kind, "frames_per_s": round(measured, 3), "device": str(device)}))
        else:
            share = f"{measured / published:.2f} of the paper's {published} on an H100"
            print(f"{kind:<12} {measured:8.2f} frames/s on {device}: {share}")


if __name__ == "__main__":
    main()
