"""Training audio to lips (§3.2): windows of speech with the lips numbers of their frames, the step, validation.

Shapes: B examples, T frames of a window, m frames of sound to either side of it, M lips numbers, K references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.core.device import resolve_device
from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import SAMPLES_PER_FRAME, ClipData, load_clip
from lipsync_cli.data.manifest import Clip, ClipChoice, choose_clips, read_manifest
from lipsync_cli.networks.flashlips.audio2lips import (
    AudioToLips,
    AudioToLipsConfig,
    flow_matching_loss,
    head_pose,
    noised,
)
from lipsync_cli.networks.flashlips.frames import face_of
from lipsync_cli.networks.flashlips.sample import SamplerConfig, hear, sample_lips
from lipsync_cli.networks.flashlips.speech_views import Spoken, in_another_voice
from lipsync_cli.networks.flashlips.weights import load_ear, load_flashlips, save_flashlips
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch

FRAMES_AT_ONCE = 64  # of a clip whose lips are read


@dataclass(frozen=True)
class AudioToLipsData:
    """What is trained on.

    context_frames: m.  evenness: clips are drawn so that a speaker of n clips counts n^(1 − evenness).  voices: how much
    is done to the sound, 0 nothing (`speech_views`).  lips_folder: where the lips numbers of clips are kept from run to
    run, made when absent; "" reads them anew at every start.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: ClipChoice = ClipChoice()
    context_frames: int = 25
    evenness: float = 0.0
    voices: float = 0.0
    lips_folder: str = ""


@dataclass(frozen=True)
class AudioToLipsRecipe:
    """start: the model folder whose lips numbers are to be heard; it is written out again with this network added."""

    objective: str
    data: AudioToLipsData
    start: str
    model: AudioToLipsConfig = field(default_factory=AudioToLipsConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class LipsSource:
    """Where lips numbers come from, and what becomes of the trained network.

    numbers: M.  read: a clip's lips numbers, (F, M) float32.  save: network, folder, licence, validation → a model folder.
    """

    numbers: int
    read: Callable[[ClipData], np.ndarray]
    save: Callable[[AudioToLips, Path, str, dict[str, float]], None]


class FlowMatching(nn.Module):
    """A batch of `AudioToLipsObjective.example`s → the loss of eq. 12."""

    def __init__(self, network: AudioToLips, context_frames: int) -> None:
        super().__init__()
        self.network = network
        self.context = context_frames

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network = self.network
        heard = network.speech(batch["samples"])
        heard = heard[:, self.context : heard.shape[1] - self.context]
        lips, references = network.normalise(batch["lips"]), network.normalise(batch["references"])
        z = noised(lips, batch["noise"], batch["t"])
        condition = network.embed_condition(heard, references)
        velocity = network(z, batch["t"], condition, batch["pose"])
        return {"loss": flow_matching_loss(velocity, lips, batch["noise"])}


class AudioToLipsObjective:
    """`training.Objective` for audio to lips."""

    def __init__(self, recipe: AudioToLipsRecipe, source: LipsSource | None = None) -> None:
        """source: by default the lips encoder of `recipe.start`."""
        self.recipe = recipe
        self._source = source or flashlips_source(recipe.start)
        if recipe.model.lips != self._source.numbers:
            raise UsageError(
                f"{recipe.start}: its lips encoder gives {self._source.numbers} numbers.",
                f"--set model.lips={self._source.numbers}",
            )
        data = recipe.data
        manifest = Path(data.manifest)
        self._folder = manifest if manifest.is_dir() else manifest.parent
        clips = read_manifest(manifest)
        if recipe.model.pose and not all(clip.landmarks for clip in clips):
            raise InputError(f"{manifest}: a clip has no landmarks.", "lipsync prepare FOOTAGE OUT")
        long = [c for c in choose_clips(clips, data.train) if c.num_frames >= recipe.model.frames]
        if not long:
            raise UsageError(
                f"{manifest}: no training clip has {recipe.model.frames} frames.",
                f"--set model.frames={recipe.model.frames // 2}",
            )
        self._train = [self._spoken(clip) for clip in long]
        counts = Counter(clip.subject for clip in long)
        chances = np.array([counts[clip.subject] ** -data.evenness for clip in long])
        self._chances = chances / chances.sum()
        self._validate = [self._spoken(clip) for clip in choose_clips(clips, data.validate)]

    def _spoken(self, clip: Clip) -> Spoken:
        data = load_clip(self._folder, clip, grey=False)
        kept = Path(self.recipe.data.lips_folder) / f"{clip.key}.npy"
        if self.recipe.data.lips_folder and kept.is_file():
            lips = np.load(kept)
        else:
            lips = self._source.read(data)
            if self.recipe.data.lips_folder:
                kept.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(kept) as temporary, temporary.open("wb") as file:
                    np.save(file, lips)
        pose = np.zeros((len(lips), 0), np.float32)
        if self.recipe.model.pose:
            assert data.landmarks is not None
            pose = head_pose(data.landmarks)
        return Spoken(data.samples, lips, pose)

    def build(self) -> FlowMatching:
        """Raises: WeightsError when the speech encoder is not on this machine."""
        config = self.recipe.model
        network = AudioToLips(config, load_ear(config))
        every = np.concatenate([clip.lips for clip in self._train])
        network.lips_mean.copy_(torch.from_numpy(every.mean(0)))
        network.lips_std.copy_(torch.from_numpy(every.std(0)).clamp_min(1e-4))
        return FlowMatching(network, self.recipe.data.context_frames)

    def example(self, index: int) -> Batch:
        """One window of one clip with everything random about it already drawn.

        samples: ((T + 2m)·640,), silence beyond the clip.  lips, noise: (T, M).  t: ().  references: (K, M) of frames
        anywhere in the clip.  pose: (T, P).
        """
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        config, m = self.recipe.model, self.recipe.data.context_frames
        clip = self._train[int(rng.choice(len(self._train), p=self._chances))]
        clip = in_another_voice(clip, self.recipe.data.voices, config.frames, rng)
        start = int(rng.integers(len(clip.lips) - config.frames + 1))
        frames = slice(start, start + config.frames)
        silence = np.zeros(m * SAMPLES_PER_FRAME, np.float32)
        samples = np.concatenate([silence, clip.samples, silence])  # frame `start` is now m frames further on
        heard = samples[start * SAMPLES_PER_FRAME : (frames.stop + 2 * m) * SAMPLES_PER_FRAME]
        return {
            "samples": torch.from_numpy(heard),
            "lips": torch.from_numpy(clip.lips[frames]),
            "noise": torch.from_numpy(rng.standard_normal((config.frames, config.lips), np.float32)),
            "t": torch.tensor(rng.random(), dtype=torch.float32),
            "references": torch.from_numpy(clip.lips[rng.integers(len(clip.lips), size=config.references)]),
            "pose": torch.from_numpy(clip.pose[frames]),
        }

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """Lips numbers sampled for whole validation clips, against those that are seen.

        error: mean absolute difference, in deviations.  correlation: over time, mean over numbers and clips;
        correlation_widest: of the number that moves most.
        """
        assert isinstance(module, FlowMatching)
        network = module.network
        errors, correlations = [], []
        with progress.stage("validate", len(self._validate), "clips") as stage:
            for clip in self._validate:
                heard = hear(network, torch.from_numpy(clip.samples).to(device))
                chosen = np.linspace(0, len(clip.lips) - 1, self.recipe.model.references).round().astype(int)
                told = sample_lips(
                    network,
                    heard,
                    torch.from_numpy(clip.lips[chosen]),
                    seed=0,
                    config=self.recipe.sampler,
                    pose=torch.from_numpy(clip.pose).to(device),
                )
                mean, std = network.lips_mean.cpu(), network.lips_std.cpu()
                seen = ((torch.from_numpy(clip.lips) - mean) / std).numpy()
                said = ((told.cpu() - mean) / std).numpy()
                errors.append(np.abs(said - seen).mean())
                correlations.append(_correlations(said, seen))
                stage.advance()
        widest = int(module.network.lips_std.argmax())
        return {
            "error": float(np.mean(errors)),
            "correlation": float(np.mean(correlations)),
            "correlation_widest": float(np.mean([row[widest] for row in correlations])),
        }

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, FlowMatching)
        self._source.save(module.network, folder, self.recipe.licence, metrics)


def flashlips_source(start: str) -> LipsSource:
    """The lips encoder of a model folder, on the best device; the folder is saved anew with what a dub needs."""
    model = load_flashlips(start)
    encoder = model.distilled or model.lips
    if encoder is None:
        raise UsageError(f"{start}: holds no lips encoder.", "train flashlips_editor first")
    device = resolve_device("auto")
    side = model.config.image_px
    model.to(device)

    @torch.inference_mode()
    def read(clip: ClipData) -> np.ndarray:
        parts = range(0, len(clip.frames), FRAMES_AT_ONCE)
        faces = (face_of(clip.frames[k : k + FRAMES_AT_ONCE], side) for k in parts)
        return torch.cat([model.read_lips(part.to(device)).cpu() for part in faces]).numpy()

    def save(network: AudioToLips, folder: Path, licence: str, metrics: dict[str, float]) -> None:
        taught_by = None if model.distilled is not None else model.lips
        whole = model.with_networks(lips=taught_by, expression=None, audio2lips=network)
        save_flashlips(whole.cpu(), folder, licence, {"validation": metrics})

    return LipsSource(encoder.config.numbers, read, save)


def _correlations(said: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(F, M), (F, M) → (M,), 0 where either stands still."""
    said, seen = said - said.mean(0), seen - seen.mean(0)
    scale = np.sqrt((said**2).sum(0) * (seen**2).sum(0))
    return np.divide((said * seen).sum(0), scale, out=np.zeros(said.shape[1]), where=scale > 1e-9)
