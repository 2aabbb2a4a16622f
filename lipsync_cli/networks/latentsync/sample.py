"""From noise to latents of faces that say what is heard: the sampler (paper §3.1, and the published pipeline).

All frames of a passage are denoised side by side, in windows of 16; where windows overlap their predictions are averaged
at every step, so that they agree on the frames they share and no join is seen (MultiDiffusion, Bar-Tal et al. 2023).

Shapes: F frames, W windows of L frames, h × w latent pixels (an eighth of the face's).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.networks.latentsync.noise import BETA_END, BETA_START
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

# Stable Diffusion's noise, as LatentSync was trained with it
SCHEDULE: dict[str, Any] = {
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}

# (B, 13, L, h, w) noisy input, timestep, (B, L, 50, 384) audio → (B, 4, L, h, w) predicted noise
NoisePredictor = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SampleConfig:
    """How latents are sampled; but for the overlap, the defaults are the published ones.

    guidance: how far beyond the prediction without sound to go towards the one with it; 1 predicts with sound
    alone, in half the time.  overlap_frames: shared by neighbouring windows; 0 is published, and shows at the joins.
    windows_at_once: windows in one batch, twice as many network inputs when there is guidance.
    whole_every: of so many steps one runs the whole network, the others its outermost layers with what the inner ones
    gave then (DeepCache; the published pipeline has 3); 1 is exact.
    """

    steps: int = 20
    guidance: float = 1.5
    solver: Literal["ddim", "dpm-solver++"] = "ddim"
    window_frames: int = 16
    overlap_frames: int = 4
    windows_at_once: int = 1
    whole_every: int = 1
    seed: int = 1247

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_frames < self.window_frames:
            raise ValueError(f"overlap_frames must be from 0 to {self.window_frames - 1}")
        if self.steps < 1 or self.windows_at_once < 1 or self.whole_every < 1:
            raise ValueError("steps, windows_at_once and whole_every must be at least 1")


class Passage(NamedTuple):
    """What the U-Net is given of consecutive frames of one face.

    masked, reference: (F, 4, h, w) latents of the masked and of the whole faces.  mask: (1, h, w), 1 = keep.
    audio: (F, 50, 384), what each frame hears.
    """

    masked: Tensor
    reference: Tensor
    mask: Tensor
    audio: Tensor


@torch.no_grad()
def sample(
    unet: NoisePredictor, passage: Passage, config: SampleConfig, progress: Progress = SILENT
) -> Tensor:
    """Latents of the new faces: (F, 4, h, w) float32.

    Every frame starts from the same noise, drawn on the CPU so that a seed means the same everywhere.
    """
    scheduler = make_scheduler(config.solver)
    scheduler.set_timesteps(config.steps)
    noise = torch.randn(passage.masked.shape[1:], generator=torch.Generator().manual_seed(config.seed))
    latents = noise.to(passage.audio.device).expand(len(passage.audio), -1, -1, -1).contiguous()
    cache = LayerCache(unet, config.whole_every) if isinstance(unet, LatentSyncUNet) else None
    with progress.stage("sample", config.steps, "steps") as stage:
        for timestep in scheduler.timesteps.tolist():
            if cache:
                cache.next_step()
            predicted = predict_noise(cache or unet, latents, timestep, passage, config)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
            stage.advance()
    return latents


class LayerCache:
    """A noise predictor that runs the inner layers at every n-th step only, and remembers what they gave."""

    def __init__(self, unet: LatentSyncUNet, whole_every: int) -> None:
        self._unet, self._whole_every = unet, whole_every
        self._step = self._batch = -1
        self._deep: list[Tensor] = []  # of each batch of windows, which come in the same order at every step

    def next_step(self) -> None:
        self._step, self._batch = self._step + 1, -1
        if self._step % self._whole_every == 0:
            self._deep = []

    def __call__(self, seen: Tensor, timestep: Tensor, audio: Tensor) -> Tensor:
        if self._whole_every == 1:
            return self._unet(seen, timestep, audio)
        self._batch += 1
        if self._step % self._whole_every:
            return self._unet.from_deep(seen, timestep, audio, self._deep[self._batch])
        noise, deep = self._unet.with_deep(seen, timestep, audio)
        self._deep.append(deep)
        return noise


def make_scheduler(solver: str) -> DDIMScheduler | DPMSolverMultistepScheduler:
    """The noise schedule that LatentSync was trained with, walked back by DDIM or by DPM-Solver++ of second order."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    if solver == "ddim":
        return DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False)
    return DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++")


def predict_noise(
    unet: NoisePredictor, latents: Tensor, timestep: int, passage: Passage, config: SampleConfig
) -> Tensor:
    """Noise in all frames, (F, 4, h, w) float32, from windows whose predictions are averaged where they overlap."""
    frames = len(latents)
    places = window_frames(frames, config.window_frames, config.overlap_frames).to(latents.device)
    weights = window_weights(frames, config.window_frames, config.overlap_frames).to(latents.device)
    time = torch.tensor(timestep, device=latents.device)
    known = torch.cat([passage.mask.expand(frames, 1, -1, -1), passage.masked, passage.reference], 1)
    total = torch.zeros_like(latents)
    for place, weight in zip(
        places.split(config.windows_at_once), weights.split(config.windows_at_once), strict=True
    ):
        seen = torch.cat([latents[place].to(known), known[place]], 2).transpose(1, 2)  # (W, 13, L, h, w)
        noise = _guided(unet, seen, time, passage.audio[place], config.guidance).transpose(1, 2)
        weighted = weight[:, :, None, None, None] * noise.float()
        total.index_add_(0, place.flatten(), weighted.flatten(0, 1))
    shares = torch.zeros_like(total[:, 0, 0, 0]).index_add_(0, places.flatten(), weights.flatten())
    return total / shares[:, None, None, None]


def _guided(unet: NoisePredictor, seen: Tensor, timestep: Tensor, audio: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance, without and with sound in one batch; "without" is all zeros."""
    if guidance == 1:
        return unet(seen, timestep, audio)
    both = unet(seen.repeat(2, 1, 1, 1, 1), timestep, torch.cat([torch.zeros_like(audio), audio]))
    without, heard = both.chunk(2)
    return without + guidance * (heard - without)


def window_frames(frames: int, length: int, overlap: int) -> Tensor:
    """(W, L) numbers of the frames in each window; the last one is filled with the last frame, never shortened."""
    starts = torch.arange(0, max(frames - overlap, 1), length - overlap)
    return (starts[:, None] + torch.arange(length)).clamp_max(frames - 1)


def window_weights(frames: int, length: int, overlap: int) -> Tensor:
    """(W, L) how much each window's prediction counts: less towards a neighbour, nothing where it is filled."""
    starts = torch.arange(0, max(frames - overlap, 1), length - overlap)
    place = torch.arange(length)
    ramp = torch.minimum(place + 1, length - place).clamp_max(overlap + 1) / (overlap + 1)
    return ramp * (starts[:, None] + place < frames)
