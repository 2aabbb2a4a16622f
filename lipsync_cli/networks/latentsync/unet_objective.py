"""Training the U-Net: stage 1 on noise alone, stage 2 on what its answer looks like once decoded (LatentSync §3.1).

Losses (equation 5): the noise that was added (2); in stage 2, on the picture found in one step (1), SyncNet (3), LPIPS on
the lower half (4), and TREPA (7).

Shapes: B windows, F frames (16), S side of the faces, h = w = S/8 latents, C side of a clip's pictures.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import ClipData
from lipsync_cli.data.manifest import Clip, ClipChoice
from lipsync_cli.networks.latentsync.audio import WhisperStates, window_indices
from lipsync_cli.networks.latentsync.convert import save_unet
from lipsync_cli.networks.latentsync.mask import LATENT_PX, fixed_mask, latent_mask
from lipsync_cli.networks.latentsync.mel import COLUMNS_PER_S, mel_windows, start_column, syncnet_mel
from lipsync_cli.networks.latentsync.noise import TIMESTEPS, add_noise, mixed_noise, remove_noise
from lipsync_cli.networks.latentsync.objective import match_loss
from lipsync_cli.networks.latentsync.prepared import (
    canvases,
    check_side,
    clip_store,
    squares_of,
    window_pictures,
)
from lipsync_cli.networks.latentsync.start import start_unet
from lipsync_cli.networks.latentsync.syncnet import lower_half
from lipsync_cli.networks.latentsync.teachers import TeacherNames, Teachers, load_ear, load_teachers
from lipsync_cli.networks.latentsync.trepa import movement_distance
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch

HEARD_CLIPS = 64  # whose states are kept by each process
VALIDATED_TIMESTEPS = (100, 300, 500, 700, 900)


@dataclass(frozen=True)
class UNetData:
    """manifest: of `lipsync prepare`.  train, validate: which clips; validation clips are never trained on.

    cache_gb: decoded clips kept in memory by each process.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: ClipChoice = ClipChoice()
    cache_gb: float = 2.0


@dataclass(frozen=True)
class UNetLoss:
    """Weights of the losses (equation 5); one that is 0 is not computed, and its network not loaded."""

    noise: float = 1.0
    sync: float = 0.0
    picture: float = 0.0
    movement: float = 0.0

    @property
    def decodes(self) -> bool:
        return bool(self.sync or self.picture or self.movement)


@dataclass(frozen=True)
class UNetRecipe:
    """recipes/dub/latentsync_*.yaml.

    size_px: side of the faces, 256 (1.5) or 512 (1.6).  frames: of a window.  start: model to go on from (LatentSync's, or
    Stable Diffusion 1.5's); "" starts from random numbers.  trained: parts of the names of the weights that are trained;
    none trains all.  shared_noise: α of the mixed noise.  recompute: layers are run again for gradients, which takes
    less memory and more time.
    """

    objective: str
    data: UNetData
    size_px: int = 256
    frames: int = 16
    model: UNetConfig = field(default_factory=UNetConfig)
    start: str = ""
    trained: tuple[str, ...] = ()
    loss: UNetLoss = field(default_factory=UNetLoss)
    shared_noise: float = 1.0
    recompute: bool = True
    teachers: TeacherNames = field(default_factory=TeacherNames)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "OpenRAIL++"

    def __post_init__(self) -> None:
        if self.size_px % LATENT_PX:
            raise ValueError(f"size_px must be a multiple of {LATENT_PX}, not {self.size_px}")
        if self.frames > self.model.max_frames:
            raise ValueError(f"frames must be at most model.max_frames, {self.model.max_frames}")


def choose_trained(unet: LatentSyncUNet, parts: tuple[str, ...]) -> None:
    """Freeze all weights but those whose name holds one of `parts`; without parts, none.

    Raises: UsageError when a part is in no name.
    """
    names = [name for name, _ in unet.named_parameters()]
    for part in parts:
        if not any(part in name for name in names):
            raise UsageError(
                f"trained: no weight's name holds '{part}'.", "see the names in model.safetensors"
            )
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not parts or any(part in name for part in parts))


class TrainedUNet(nn.Module):
    """A batch of `UNetObjective.example`s → its losses. The teachers are no part of its state, nor of checkpoints."""

    def __init__(self, unet: LatentSyncUNet, teachers: Teachers, recipe: UNetRecipe) -> None:
        super().__init__()
        self.unet = unet
        self._recipe, self._teachers = recipe, [teachers]  # in a list, so that they are not registered
        self._mask = fixed_mask(recipe.size_px)
        self._latent_mask = latent_mask(recipe.size_px)

    @property
    def teachers(self) -> Teachers:
        return self._teachers[0]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        loss, teachers = self._recipe.loss, self.teachers.to(batch["noise"].device)
        real, clean, known = self._given(batch, teachers)
        noisy = add_noise(clean, batch["noise"], batch["timestep"])
        found = self.unet(torch.cat([noisy, known], 1), batch["timestep"], batch["heard"]).float()
        losses = {"noise": F.mse_loss(found, batch["noise"])}
        if loss.decodes:
            latents = remove_noise(noisy, found, batch["timestep"]).transpose(1, 2)
            made = teachers.decode(latents.flatten(0, 1), recompute=self._recipe.recompute)
            losses |= self._seen(made.unflatten(0, real.shape[:2]), real, batch["mel"], teachers)
        total = sum(getattr(loss, name) * value for name, value in losses.items())
        return {"loss": torch.as_tensor(total), **losses}

    @torch.no_grad()
    def _given(self, batch: Batch, teachers: Teachers) -> tuple[Tensor, Tensor, Tensor]:
        """Faces as they are (B, F, 3, S, S), their latents (B, 4, F, h, w), and what the U-Net is told (B, 9, F, h, w)."""
        windows = batch["noise"].shape[0]

        def squares(name: str) -> Tensor:
            pictures, matrices = batch[name].flatten(0, 1), batch[f"{name}_canvas"].flatten(0, 1)
            return squares_of(pictures, matrices, self._recipe.size_px)

        real, reference = squares("pictures"), squares("reference")
        masked = real * self._mask.to(real)
        clean, hidden, shown = (
            teachers.codec.encode(faces, draw=self.training).unflatten(0, (windows, -1)).transpose(1, 2)
            for faces in (real, masked, reference)
        )
        mask = self._latent_mask.to(clean)[:, None].expand(windows, 1, *clean.shape[2:])
        return real.unflatten(0, (windows, -1)), clean, torch.cat([mask, hidden, shown], 1)

    def _seen(self, made: Tensor, real: Tensor, mel: Tensor, teachers: Teachers) -> dict[str, Tensor]:
        """Losses on faces (B, F, 3, S, S) in −1…1; those of weight 0 are left out."""
        weights, losses = self._recipe.loss, {}
        if weights.sync:
            assert teachers.syncnet is not None
            side = teachers.syncnet.config.crop_px
            faces = made.flatten(0, 1)
            if faces.shape[-1] != side:
                faces = F.interpolate(faces, (side, side), mode="bicubic", align_corners=False)
            seen, heard = teachers.syncnet(lower_half(faces.unflatten(0, made.shape[:2])), mel)
            cosine = (seen.float() * heard.float()).sum(1)
            losses["sync"] = match_loss(cosine, torch.ones_like(cosine))
        if weights.picture:
            assert teachers.lpips is not None
            half = made.shape[-1] // 2
            losses["picture"] = teachers.picture_distance(
                made[..., half:, :].flatten(0, 1),
                real[..., half:, :].flatten(0, 1),
                recompute=self._recipe.recompute,
            )
        if weights.movement:
            assert teachers.movement is not None
            losses["movement"] = movement_distance(teachers.movement, made, real)
        return losses


class UNetObjective:
    """`training.Objective` for the U-Net."""

    def __init__(self, recipe: UNetRecipe) -> None:
        self.recipe = recipe
        data, wanted = recipe.data, 2 * recipe.frames
        self._train = clip_store(data.manifest, data.train, wanted, data.cache_gb)
        self._validate = clip_store(data.manifest, data.validate, wanted, 0)
        self._ear: WhisperStates | None = None
        self._heard: OrderedDict[str, Tensor] = OrderedDict()

    def build(self) -> TrainedUNet:
        """Raises: UsageError when the crops are too small, nothing fits `trained`, or networks do not fit each other;
        WeightsError.
        """
        recipe = self.recipe
        check_side(self._train, recipe.size_px)
        self._ear = load_ear(
            recipe.teachers.whisper
        )  # before workers are started, to say in time what is missing
        heard, wanted = self._ear.encoder.config.d_model, recipe.model.audio_width
        if heard != wanted:
            raise UsageError(
                f"Whisper ({recipe.teachers.whisper}) gives {heard} numbers where the U-Net hears {wanted}.",
                f"--set model.audio_width={heard}",
            )
        unet = start_unet(recipe.model, recipe.start)
        choose_trained(unet, recipe.trained)
        if recipe.recompute:
            unet.recompute()
        loss = recipe.loss
        weights = {"sync": loss.sync, "picture": loss.picture, "movement": loss.movement}
        names = [name for name, weight in weights.items() if weight]
        teachers = load_teachers(recipe.teachers, names, recompute=recipe.recompute)
        for other in (teachers.syncnet, teachers.movement):
            if other is not None and other.config.frames != recipe.frames:
                raise UsageError(
                    f"windows have {recipe.frames} frames where {type(other).__name__} sees {other.config.frames}.",
                    f"--set frames={other.config.frames}",
                )
        return TrainedUNet(unet, teachers, recipe)

    def example(self, index: int) -> Batch:
        """A window of a clip, another of the same clip to look like, and what is heard; see `_window`."""
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        clip = self._train.clips[int(rng.integers(len(self._train.clips)))]
        data, frames = self._train.load(clip), self.recipe.frames
        first = int(rng.integers(len(data.frames) - 2 * frames + 1))
        second = int(rng.integers(first + frames, len(data.frames) - frames + 1))
        start, reference = (first, second) if rng.random() < 0.5 else (second, first)
        return self._window(
            clip, data, start, reference, int(rng.integers(TIMESTEPS)), int(rng.integers(2**62))
        )

    def _window(
        self, clip: Clip, data: ClipData, start: int, reference: int, timestep: int, seed: int
    ) -> Batch:
        """pictures, reference: (F, C, C, 3) uint8, with their canvases (F, 2, 3).  heard: (F, 50, D).  mel: (1, 80, 52).
        noise: (4, F, h, w).  timestep: scalar.
        """
        frames, side = self.recipe.frames, self.recipe.size_px // LATENT_PX
        matrices = canvases(data, self.recipe.size_px)
        pictures, canvas = window_pictures(data, matrices, start, frames)
        shown, shown_canvas = window_pictures(data, matrices, reference, frames)
        states = self._states(clip, data)
        places = window_indices(len(data.frames), len(states))[start : start + frames]
        mel = syncnet_mel(torch.from_numpy(data.samples))
        columns = math.ceil(frames * COLUMNS_PER_S / 25)
        generator = torch.Generator().manual_seed(seed)
        return {
            "pictures": pictures,
            "pictures_canvas": canvas,
            "reference": shown,
            "reference_canvas": shown_canvas,
            "heard": states[places].flatten(1, 2),
            "mel": mel_windows(mel, torch.tensor([start_column(start)]), columns)[0],
            "noise": mixed_noise((4, frames, side, side), self.recipe.shared_noise, generator),
            "timestep": torch.tensor(timestep),
        }

    def _states(self, clip: Clip, data: ClipData) -> Tensor:
        """What Whisper hears in a clip: (m, L, D)."""
        if clip.key not in self._heard:
            self._ear = self._ear or load_ear(self.recipe.teachers.whisper)
            self._heard[clip.key] = self._ear(torch.from_numpy(data.samples))
            if len(self._heard) > HEARD_CLIPS:
                self._heard.popitem(last=False)
        return self._heard[clip.key]

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """The losses over validation clips, a window of each, at five timesteps."""
        totals: dict[str, float] = {}
        frames, rounds = self.recipe.frames, len(self._validate.clips) * len(VALIDATED_TIMESTEPS)
        with progress.stage("validate", len(self._validate.clips), "clips") as stage:
            for number, clip in enumerate(self._validate.clips):
                data = self._validate.load(clip)
                for timestep in VALIDATED_TIMESTEPS:
                    window = self._window(clip, data, 0, len(data.frames) - frames, timestep, number)
                    losses = module({name: tensor[None].to(device) for name, tensor in window.items()})
                    for name, value in losses.items():
                        totals[name] = totals.get(name, 0.0) + float(value) / rounds
                stage.advance()
        return totals

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, TrainedUNet)
        save_unet(module.unet, self.recipe.size_px, folder, self.recipe.licence, {"validation": metrics})
