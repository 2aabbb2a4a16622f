"""What LatentSync costs per 16-frame window, part by part, and what each way of making it faster buys.

    python benchmarks/latentsync.py --size tiny                    # a made-up small network: any machine, seconds
    python benchmarks/latentsync.py --size 256 --device cuda       # LatentSync 1.5's sizes
    python benchmarks/latentsync.py --size 512 --device cuda --compile --json

Weights are random: they cost what trained ones do. The pictures are noise of 1920×1080 with a face 480 px wide. "Parts" are
measured alone, one after another; "settings" are whole calls of the engine, as `lipsync dub` makes them, so that their
frames/s hold everything but decoding, following faces and encoding. Windows share 4 of their 16 frames: new frames are
counted, 12 a window.

Targets, at 256 px, 20 steps, one H100-class GPU: 17.1 frames/s, three times the 5.70 that FlashLips (Table 2) measured of
the published code on an H100.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
import torch

from lipsync_cli.core.device import resolve_device
from lipsync_cli.dubbing.compositing import FEATHER, make_patch, mouth_box, new_mouth
from lipsync_cli.dubbing.cutting import cut_crop
from lipsync_cli.dubbing.engine import Crops, SoundDrive
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.media.patch import paste, to_rgb
from lipsync_cli.networks.latentsync.audio import WhisperStates
from lipsync_cli.networks.latentsync.codec import PictureCodec
from lipsync_cli.networks.latentsync.sample import SampleConfig
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig
from lipsync_cli.tasks.engines.latentsync import PRECISIONS, LatentSyncEngine, LatentSyncParts

FRAME_PX = (1920, 1080)
WINDOW, SHARED = 16, 4
PAPER_FRAMES_PER_S = 5.70  # LatentSync on an H100, FlashLips Table 2
TARGET = 3
TINY_UNET = UNetConfig(channels=(32, 64), layers=1, heads=4, audio_width=384, groups=8)


@dataclass(frozen=True)
class Setting:
    """One way to run: what it is called, how it samples, in which numbers, compiled or not."""

    name: str
    config: SampleConfig
    precision: str
    compiled: bool = False


def settings(device: torch.device, compiled: bool) -> list[Setting]:
    """From the plainest on, one change at a time, then all that cost little together."""
    plain, half = SampleConfig(), "fp16" if device.type == "cuda" else "bf16"
    batched = replace(plain, windows_at_once=4)
    rows = [
        Setting("float32, 20 steps, guidance 1.5", plain, "fp32"),
        Setting(f"{half}", plain, half),
        Setting(f"{half}, 4 windows at once", batched, half),
        Setting(f"{half}, 4 windows, guidance 1", replace(batched, guidance=1.0), half),
        Setting(f"{half}, 4 windows, whole every 3", replace(batched, whole_every=3), half),
        Setting(
            f"{half}, 4 windows, DPM-Solver++, 10 steps",
            replace(batched, solver="dpm-solver++", steps=10),
            half,
        ),
        Setting(
            f"{half}, 4 windows, guidance 1, whole every 3",
            replace(batched, guidance=1.0, whole_every=3),
            half,
        ),
    ]
    if compiled:
        rows.append(Setting(f"{half}, 4 windows, compiled", batched, half, compiled=True))
    return rows


# ---------------------------------------------------------------- networks and pictures


def make_parts(size: str, device: torch.device) -> LatentSyncParts:
    """All networks with random weights, at the real sizes or tiny."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    tiny = size == "tiny"
    torch.manual_seed(0)
    with torch.device(device):
        unet = LatentSyncUNet(TINY_UNET if tiny else UNetConfig()).eval().requires_grad_(False)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8) if tiny else (128, 256, 512, 512),
            layers_per_block=1 if tiny else 2,
            norm_num_groups=4 if tiny else 32,
        )
        whisper = WhisperEncoder(
            WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
        )
    codec = PictureCodec(vae.eval().requires_grad_(False))
    return LatentSyncParts(unet, codec, WhisperStates(whisper), 64 if tiny else int(size), "random")


def make_engine(setting: Setting, size: str, device: torch.device) -> LatentSyncEngine:
    parts = make_parts(size, device)
    if setting.compiled:
        parts.unet.compile_layers()
    return LatentSyncEngine("latentsync", parts, device, PRECISIONS[setting.precision], setting.config)


def landmarks(frames: int) -> np.ndarray:
    """(N, 478, 2) of a face 480 px wide in the middle of the frame, moving a little."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-200, 200, (478, 2))
    points[[70, 63, 105, 66, 107]] = (-130, -110)
    points[[300, 293, 334, 296, 336]] = (130, -110)
    points[[195, 4, 129, 358]] = (0, 20)
    points[[2, 168]] = (0, 60), (0, -80)
    drift = np.arange(frames)[:, None, None] * [0.5, 0.2]
    return (points[None] + [FRAME_PX[0] / 2, FRAME_PX[1] / 2] + drift).astype(np.float32)


def make_pictures(frames: int) -> list[av.VideoFrame]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (FRAME_PX[1] + frames, FRAME_PX[0], 3), dtype=np.uint8)
    return [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[n : n + FRAME_PX[1]])).reformat(
            format="yuv420p"
        )
        for n in range(frames)
    ]


# ---------------------------------------------------------------- measuring


def milliseconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median time of a call, after one that is not counted; of that one when nothing is repeated."""
    spent = []
    for number in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if number or not repeats:
            spent.append(1000 * (time.perf_counter() - started))
    return float(np.median(spent))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def measure_parts(
    engine: LatentSyncEngine, size_px: int, device: torch.device, repeats: int
) -> dict[str, float]:
    """ms of each part of one window of 16 frames, alone."""
    dtype, latent_px = engine._dtype, size_px // 8
    points, times_s = landmarks(WINDOW), np.arange(WINDOW) / 25
    pictures, side_px = make_pictures(WINDOW), engine.spec.side_px
    matrices = engine.align(points, times_s)
    crops = np.stack([cut_crop(p, m, side_px) for p, m in zip(pictures, matrices, strict=True)])
    faces = torch.randn(WINDOW, 3, size_px, size_px, device=device, dtype=dtype)
    latents = torch.randn(WINDOW, 4, latent_px, latent_px, device=device)
    seen = torch.randn(2, 13, WINDOW, latent_px, latent_px, device=device, dtype=dtype)
    audio = torch.randn(2, WINDOW, 50, 384, device=device, dtype=dtype)
    step = torch.tensor(500, device=device)
    _, deep = engine._unet.with_deep(seen, step, audio)
    sound = torch.randn(16_000 * 30, device=device)
    parts = {
        "hear 30 s of sound": lambda: engine._ear(sound),
        "align and cut 16 frames of 1920×1080": lambda: [
            cut_crop(p, m, side_px) for p, m in zip(pictures, engine.align(points, times_s), strict=True)
        ],
        "encode 16 faces, masked and whole": lambda: [engine._codec.encode(faces) for _ in range(2)],
        "one step of the U-Net, both halves of guidance": lambda: engine._unet(seen, step, audio),
        "one step of the U-Net, guidance 1": lambda: engine._unet(seen[:1], step, audio[:1]),
        "one step with kept layers, both halves": lambda: engine._unet.from_deep(seen, step, audio, deep),
        "decode 16 faces": lambda: engine._codec.decode(latents),
        "paste 16 mouths into frames of 1920×1080": lambda: [
            _paste(p, c, m, mesh, side_px)
            for p, c, m, mesh in zip(pictures, crops, matrices, points, strict=True)
        ],
    }
    return {name: milliseconds(work, device, repeats) for name, work in parts.items()}


def _paste(
    picture: av.VideoFrame, crop: np.ndarray, matrix: np.ndarray, mesh: np.ndarray, side_px: int
) -> None:
    inside = mesh @ matrix[:, :2].T + matrix[:, 2]
    mask = mouth_mask(inside[None].astype(np.float32), side_px, FEATHER * side_px)[0]
    mouth = new_mouth(crop, crop[::-1].astype(np.float32), mask, matrix)
    box = mouth_box(mouth, FRAME_PX) if mouth else None
    if mouth is not None and box is not None:
        patch = make_patch(mouth, to_rgb(picture, box), box[0], box[1])
        paste(picture, patch.rgb, patch.alpha, patch.left, patch.top)


def measure_setting(
    setting: Setting, size: str, device: torch.device, repeats: int
) -> dict[str, float | None]:
    """ms per window and frames/s of the engine's own call, and the most memory of the device it held."""
    engine = make_engine(setting, size, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    frames = engine.spec.window_frames
    rng, side_px = np.random.default_rng(0), engine.spec.side_px
    images = rng.integers(0, 255, (frames, side_px, side_px, 3), dtype=np.uint8)
    crops = Crops(images, np.zeros((frames, 478, 2), np.float32), np.arange(frames) / 25)
    sound = SoundDrive(rng.normal(0, 0.1, 640 * frames).astype(np.float32), np.ones(frames, bool))
    engine.prepare(crops, sound, 0, lambda *_: None)
    ms = milliseconds(lambda: engine.generate(crops), device, repeats)
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    engine.release()
    return {
        "ms_per_window": ms / setting.config.windows_at_once,
        "frames_per_s": 1000 * (frames - SHARED) / ms,
        "memory_gb": memory,
    }


def measure(size: str, device: torch.device, repeats: int, compiled: bool) -> dict[str, Any]:
    first = Setting("parts", SampleConfig(), "fp16" if device.type == "cuda" else "fp32")
    parts = measure_parts(
        make_engine(first, size, device), 64 if size == "tiny" else int(size), device, repeats
    )
    rows = {one.name: measure_setting(one, size, device, repeats) for one in settings(device, compiled)}
    plain = next(iter(rows.values()))["frames_per_s"] or 1.0
    for row in rows.values():
        row["times_plain"] = (row["frames_per_s"] or 0.0) / plain
    return {
        "size": size,
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "parts_precision": first.precision,
        "parts_ms": parts,
        "settings": rows,
    }


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}: {platform.processor() or platform.machine()}"


def show(found: dict[str, Any]) -> str:
    lines = [f"LatentSync, {found['size']}, on {found['device']}, torch {found['torch']}"]
    lines += ["", f"{'part (' + found['parts_precision'] + ')':<52}{'ms':>10}"]
    lines += [f"{name:<52}{ms:>10.1f}" for name, ms in found["parts_ms"].items()]
    lines += ["", f"{'setting':<52}{'ms/window':>10}{'frames/s':>10}{'×':>7}{'GB':>7}"]
    for name, row in found["settings"].items():
        memory = "–" if row["memory_gb"] is None else f"{row['memory_gb']:.1f}"
        lines.append(
            f"{name:<52}{row['ms_per_window']:>10.1f}{row['frames_per_s']:>10.2f}{row['times_plain']:>7.2f}{memory:>7}"
        )
    if found["size"] == "256":
        best = max(row["frames_per_s"] for name, row in found["settings"].items() if "10 steps" not in name)
        lines += [
            "",
            f"best at 20 steps: {best / PAPER_FRAMES_PER_S:.1f}× the published {PAPER_FRAMES_PER_S} frames/s",
        ]
        lines[-1] += f" (target {TARGET}×, on an H100)"
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "256", "512"), default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--compile", action="store_true", help="measure the compiled network too: minutes more"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found = measure(options.size, resolve_device(options.device), options.repeats, options.compile)
    print(json.dumps(found) if options.json else show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
