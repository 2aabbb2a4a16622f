"""LatentSync in the dubbing pipeline: the published 1.5 and 1.6, or a folder of one's own, driven by speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsync_cli.core.device import resolve_device
from lipsync_cli.core.errors import InputError, UsageError, WeightsError
from lipsync_cli.core.shipped import did_you_mean
from lipsync_cli.dubbing.engine import Crops, Drive, EngineSpec, SoundDrive, Tell
from lipsync_cli.hub.catalogue import read_catalogue
from lipsync_cli.hub.checksums import sha256_of
from lipsync_cli.hub.model_folder import WEIGHTS_NAME, ModelFolder, is_present, load_model_folder
from lipsync_cli.networks.latentsync.align import (
    brows_and_nose,
    canvas_px,
    canvas_to_square,
    fit_canvas,
    square_to_canvas,
)
from lipsync_cli.networks.latentsync.audio import WhisperStates, window_indices
from lipsync_cli.networks.latentsync.codec import PictureCodec
from lipsync_cli.networks.latentsync.convert import PUBLISHED_UNET, UNET_NETWORK, load_unet
from lipsync_cli.networks.latentsync.mask import fixed_mask, latent_mask
from lipsync_cli.networks.latentsync.sample import Passage, SampleConfig, sample
from lipsync_cli.networks.latentsync.teachers import find_codec, load_ear
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet

AUTOENCODER, EAR = "sd-vae-ft-mse", "whisper-tiny"
SAMPLES_PER_FRAME = 640
RAMP_SAMPLES = 320  # 20 ms, over which sound that is no speech is faded away
# `adapt` is every engine's; there is nothing to fit here.
KNOWN_OPTIONS = {"adapt", "steps", "guidance", "solver", "precision", "windows", "cache", "compile"}
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class LatentSyncParts:
    """Loaded networks.  size_px: side of the faces the U-Net was trained on.  model: name and hash, for the record."""

    unet: LatentSyncUNet
    codec: PictureCodec
    ear: WhisperStates
    size_px: int
    model: str


class LatentSyncEngine:
    """`DubEngine` of LatentSync. A crop is as high as its canvas and square; the canvas is the middle of it."""

    def __init__(
        self,
        name: str,
        parts: LatentSyncParts,
        device: torch.device,
        dtype: torch.dtype,
        config: SampleConfig,
    ) -> None:
        """config: how to sample; its seed is `prepare`'s."""
        self._unet = parts.unet.to(device, dtype)
        self._codec = parts.codec.to(device, dtype)
        self._ear, self._size_px = parts.ear.to(device), parts.size_px
        self._device, self._dtype, self._config = device, dtype, config
        self._mask = fixed_mask(parts.size_px).to(device)
        self._latent_mask = latent_mask(parts.size_px).to(device, dtype)
        self._states: Tensor | None = None
        width, self._side_px = canvas_px(parts.size_px)
        self._left = (self._side_px - width) // 2
        self._columns = slice(self._left, self._left + width)
        window, shared = config.window_frames, config.overlap_frames
        self.spec = EngineSpec(
            name=name,
            model=f"{parts.model}, {described(config, dtype)}",
            side_px=self._side_px,
            drives=frozenset({"audio"}),
            window_frames=window + (config.windows_at_once - 1) * (window - shared),
            overlap_frames=shared,
            any_rate=False,
            reference_frames=1,  # faces are their own references
        )

    def align(self, landmarks: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        matrices = fit_canvas(brows_and_nose(landmarks), self._size_px)
        matrices[:, 0, 2] += self._left
        return matrices

    @torch.inference_mode()
    def prepare(self, references: Crops, drive: Drive, seed: int, tell: Tell) -> None:
        if not isinstance(drive, SoundDrive):
            raise UsageError(f"the engine {self.spec.name} follows speech only.", "give --audio FILE")
        if not drive.speech.any():
            raise InputError("no speech is heard in what is to drive the mouth.", "give a file with speech")
        tell("listening", 0, 1)
        states = self._ear(torch.from_numpy(speech_only(drive)).to(self._device))
        self._states = states.to(self._dtype)  # of an hour, 1.4 GB in float32
        self._config = replace(self._config, seed=seed)
        tell("listening", 1, 1)

    @torch.inference_mode()
    def generate(self, crops: Crops) -> np.ndarray:
        assert self._states is not None, "nothing was prepared"
        pictures = torch.from_numpy(np.ascontiguousarray(crops.images)).to(self._device).permute(0, 3, 1, 2)
        faces = canvas_to_square(pictures[..., self._columns].float(), self._size_px) / 127.5 - 1
        passage = Passage(
            self._codec.encode(faces * self._mask).to(self._dtype),
            self._codec.encode(faces).to(self._dtype),
            self._latent_mask,
            self._heard(crops.times_s),
        )
        made = self._codec.decode(sample(self._unet, passage, self._config)).clamp(-1, 1)
        made = made * (1 - self._mask) + faces * self._mask
        canvas = square_to_canvas((made + 1) * 127.5).round().clamp(0, 255)
        answer = pictures.clone()
        answer[..., self._columns] = canvas.byte()
        return answer.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _heard(self, times_s: np.ndarray) -> Tensor:
        """What each frame hears: (N, 50, D).  times_s: on the segment's 25 Hz grid."""
        assert self._states is not None
        numbers = np.maximum(np.round(times_s * 25).astype(int), 0)
        places = window_indices(int(numbers[-1]) + 1, len(self._states))[numbers]
        return self._states[places.to(self._device)].flatten(1, 2)

    def release(self) -> None:
        self._states = None


def described(config: SampleConfig, dtype: torch.dtype) -> str:
    """How it was sampled, for the record, so that a job of other settings does not go on with these frames."""
    kept = f", whole every {config.whole_every}" if config.whole_every > 1 else ""
    kind = str(dtype).removeprefix("torch.")
    return f"{config.steps} steps of {config.solver}, guidance {config.guidance:g}, {kind}{kept}"


def speech_only(drive: SoundDrive) -> np.ndarray:
    """The samples as long as `speech` says, silent where no voice is heard, so that the mouth is shut there."""
    count = len(drive.speech) * SAMPLES_PER_FRAME
    samples = np.zeros(count, np.float32)
    samples[: len(drive.samples)] = drive.samples[:count]
    heard = np.repeat(drive.speech, SAMPLES_PER_FRAME).astype(np.float32)
    window = np.ones(2 * RAMP_SAMPLES + 1, np.float32) / (2 * RAMP_SAMPLES + 1)
    around = np.convolve(
        np.pad(heard, RAMP_SAMPLES, "edge"), window, "valid"
    )  # a half where speech begins and ends
    return samples * np.clip(2 * around - 1, 0, 1).astype(np.float32)


def load_latentsync_engine(model: str, device: str, options: Mapping[str, str]) -> LatentSyncEngine:
    """model: catalogue name, or a folder with our U-Net, and `vae` and `whisper` below it where it has its own.

    options: steps, guidance, solver (ddim, dpm-solver++), precision (auto, fp32, fp16, bf16), windows (at once), cache (run
    the whole network at every n-th step), compile (on, off).
    Raises: UsageError for options that mean nothing; WeightsError with what brings the weights that are missing.
    """
    where = resolve_device(device)
    parts = load_parts(model)
    config, dtype = read_options(options, where, parts.size_px)
    if options.get("compile", "off") == "on":
        parts.unet.compile_layers()
    return LatentSyncEngine(model, parts, where, dtype, config)


def load_parts(model: str) -> LatentSyncParts:
    """All networks, on the CPU.  Raises: WeightsError."""
    if "/" not in model:
        _check_present(model)
    folder = load_model_folder(model, network=UNET_NETWORK)
    unet, size_px = load_unet(folder)
    codec = find_codec(_own_or(folder, "vae", AUTOENCODER))
    ear = load_ear(_own_or(folder, "whisper", EAR))
    if ear.encoder.config.d_model != unet.config.audio_width:
        raise WeightsError(
            f"{folder.path}: the U-Net hears {unet.config.audio_width} numbers, Whisper gives "
            f"{ear.encoder.config.d_model}.",
            f"lipsync models pull {EAR}",
        )
    return LatentSyncParts(unet, codec, ear, size_px, f"{folder.name}@{_digest(folder)}")


def _check_present(model: str) -> None:
    """Raises: WeightsError naming everything that is missing at once, with the commands that bring it."""
    catalogue = read_catalogue()
    missing = [
        name for name in (model, AUTOENCODER, EAR) if name in catalogue and not is_present(catalogue[name])
    ]
    if missing:
        raise WeightsError(
            f"{model}: not on this machine: {', '.join(missing)}.",
            " && ".join(f"lipsync models pull {name}" for name in missing),
        )


def _own_or(folder: ModelFolder, part: str, published: str) -> str:
    own = folder.path / part
    return str(own.resolve()) if own.is_dir() else published


def _digest(folder: ModelFolder) -> str:
    path: Path = folder.files.get(WEIGHTS_NAME) or folder.file(PUBLISHED_UNET)
    entry = read_catalogue().get(folder.name)
    known = [file.sha256 for file in entry.files if file.name == path.name] if entry else []
    return (known[0] if known else None) or sha256_of(path)


def read_options(
    options: Mapping[str, str], device: torch.device, size_px: int
) -> tuple[SampleConfig, torch.dtype]:
    """How to sample, and in which numbers.  Raises: UsageError naming the option that means nothing."""
    unknown = sorted(options.keys() - KNOWN_OPTIONS)
    if unknown:
        raise UsageError(
            f"LatentSync has no option '{unknown[0]}'{did_you_mean(unknown[0], KNOWN_OPTIONS)}.",
            f"one of: {', '.join(sorted(KNOWN_OPTIONS - {'adapt'}))}",
        )
    at_once = 1 if device.type != "cuda" else 4 if size_px <= 256 else 2
    try:
        config = SampleConfig(
            steps=int(options.get("steps", SampleConfig.steps)),
            guidance=float(options.get("guidance", SampleConfig.guidance)),
            solver=_one_of("solver", options.get("solver", "ddim"), ("ddim", "dpm-solver++")),
            windows_at_once=int(options.get("windows", at_once)),
            whole_every=int(options.get("cache", SampleConfig.whole_every)),
        )
    except ValueError as error:
        raise UsageError(f"LatentSync's options: {error}.", "lipsync dub --help") from error
    _one_of("compile", options.get("compile", "off"), ("on", "off"))
    automatic = "fp16" if device.type == "cuda" else "fp32"
    precision = _one_of("precision", options.get("precision", "auto"), ("auto", *PRECISIONS))
    return config, PRECISIONS[automatic if precision == "auto" else precision]


def _one_of(name: str, value: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise UsageError(
            f"LatentSync's {name} '{value}' is none of {', '.join(known)}.", "lipsync dub --help"
        )
    return value
