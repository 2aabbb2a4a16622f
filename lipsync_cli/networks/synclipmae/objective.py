"""Training SyncLipMAE: the recipe, one training example, the step, and validation by the paper's protocol (§3.3, §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.audio.mel import log_mel
from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import SAMPLES_PER_FRAME, ClipData, ClipStore
from lipsync_cli.data.manifest import ClipChoice, choose_clips, read_manifest
from lipsync_cli.hub.model_folder import load_model_folder, read_weights
from lipsync_cli.metrics.sync import (
    MAX_LAG_FRAMES,
    clip_lag_scores,
    frame_lag_scores,
    r_precision_cross_clip,
    r_precision_same_clip,
)
from lipsync_cli.networks.blocks.speech import load_speech_encoder
from lipsync_cli.networks.synclipmae.augment import affine_view, photometric_view, sound_view
from lipsync_cli.networks.synclipmae.convert import load_sapiens
from lipsync_cli.networks.synclipmae.encoder import VOCAL
from lipsync_cli.networks.synclipmae.losses import contrastive_loss, cross_covariance_loss, positive_pairs
from lipsync_cli.networks.synclipmae.masking import sample_visible
from lipsync_cli.networks.synclipmae.model import SyncLipMAE, SyncLipMAEConfig, Views
from lipsync_cli.networks.synclipmae.weights import save_model
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch

SMOOTHING_FRAMES = (1, 5, 15)  # the tables' K


@dataclass(frozen=True)
class LossConfig:
    """Weights and shape of the losses. The paper names them and gives no values: these are ours.

    decode_frames: frames of each window that bypass 1 and the decoder see, 0 for all as in the paper.
    temperature: τ.  neighbours: k of the positive set.  alike: cosine of speech features above which two moments are
    positives of each other.
    """

    pixel: float = 1.0
    contrastive: float = 1.0
    covariance: float = 0.04
    temperature: float = 0.1
    neighbours: int = 0
    alike: float = 0.9
    decode_frames: int = 0


@dataclass(frozen=True)
class PretrainData:
    """What is trained on.

    manifest: of `lipsync prepare`.  train, validate: which clips; validation clips are never trained on.
    window_frames: consecutive frames of one example, T.  photometric: strength of bypass 2's perturbation.
    cache_gb: decoded clips kept in memory by each process.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: ClipChoice = ClipChoice()
    window_frames: int = 50
    photometric: float = 1.0
    cache_gb: float = 2.0


@dataclass(frozen=True)
class PretrainRecipe:
    """recipes/pretrain/*.yaml.  init_encoder: catalogue name of Sapiens weights to start from, or ""."""

    objective: str
    data: PretrainData
    model: SyncLipMAEConfig = field(default_factory=SyncLipMAEConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    init_encoder: str = ""
    licence: str = "Apache-2.0"


class Pretraining(nn.Module):
    """The module the loop trains: SyncLipMAE with its losses."""

    def __init__(self, network: SyncLipMAE, loss: LossConfig) -> None:
        super().__init__()
        self.network = network
        self.config = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One step's losses (§3.3).  batch: see `PretrainObjective.example`, stacked."""
        network, config = self.network, self.config
        motion = network.encoder(network.normalise(batch["motion"]), batch["visible_face"]).prompts
        features = network.hear(batch["sound"], motion.shape[1])
        audio = network.audio_tokens(features, motion.shape[1])
        positives = positive_pairs(batch["alike"], config.neighbours, config.alike)
        contrastive = contrastive_loss(
            network.shared_space(audio),
            network.shared_space(motion[:, :, VOCAL]),
            positives,
            config.temperature,
        )
        views = Views(batch["visible_uniform"], batch["chosen"], batch["order"])
        restored = network.restore(network.normalise(batch["frames"]), motion, audio, views)
        pixel_vocal = (restored.from_vocal.float() - restored.target).square().mean()
        pixel_audio = (restored.from_audio.float() - restored.target).square().mean()
        covariance = cross_covariance_loss(restored.identity, restored.ambient, restored.vocal)
        total = (
            config.pixel * (pixel_vocal + pixel_audio)
            + config.contrastive * contrastive
            + config.covariance * covariance
        )
        return {
            "loss": total,
            "contrastive": contrastive,
            "pixel_vocal": pixel_vocal,
            "pixel_audio": pixel_audio,
            "covariance": covariance,
        }


class PretrainObjective:
    """`training.Objective` for SyncLipMAE."""

    def __init__(self, recipe: PretrainRecipe) -> None:
        self.recipe = recipe
        manifest = Path(recipe.data.manifest)
        folder = manifest if manifest.is_dir() else manifest.parent
        clips = read_manifest(manifest)
        grey = recipe.model.encoder.channels == 1
        window = recipe.data.window_frames
        chosen = [clip for clip in choose_clips(clips, recipe.data.train) if clip.num_frames >= window]
        if not chosen:
            raise UsageError(
                f"{manifest}: no training clip has {window} frames.",
                f"--set data.window_frames={window // 2}",
            )
        self._train = ClipStore(folder, chosen, grey=grey, cache_gb=recipe.data.cache_gb)
        self._validate = ClipStore(folder, choose_clips(clips, recipe.data.validate), grey=grey, cache_gb=0)
        self._weights: Tensor | None = None

    def build(self) -> Pretraining:
        """Raises: WeightsError when a pretrained part is not on this machine; UsageError when the clips are too small."""
        config = self.recipe.model
        side, wanted = self._train.load(self._train.clips[0]).frames.shape[1], config.encoder.image_px
        if side < wanted:
            raise UsageError(
                f"{self.recipe.data.manifest}: the crops are {side} px wide where {wanted} px are wanted.",
                f"lipsync prepare FOOTAGE OUT --face-px {wanted}",
            )
        speech = None
        if config.audio.branch == "wav2vec2":
            speech = load_speech_encoder(load_model_folder(config.audio.pretrained))
        network = SyncLipMAE(config, speech)
        if self.recipe.init_encoder:
            folder = load_model_folder(self.recipe.init_encoder)
            load_sapiens(network.encoder, read_weights(next(iter(folder.files.values()))))
        return Pretraining(network, self.recipe.loss)

    def example(self, index: int) -> Batch:
        """One window of one clip with everything random about it already drawn.

        frames, motion: (T, C, S, S), 0…1, moved alike, motion also perturbed.  sound: (T·640,).  alike: (T, F) what each
        moment sounds like.  visible_uniform, visible_face: (T, V).  chosen, order: (t,).
        """
        data, loss = self.recipe.data, self.recipe.loss
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
        clip = self._train.load(self._train.clips[int(rng.integers(len(self._train.clips)))])
        start = int(rng.integers(len(clip.frames) - data.window_frames + 1))
        frames, samples = window(clip, start, data.window_frames)
        moved = affine_view(frames[None], self.recipe.model.encoder.image_px, draw)
        t, count = data.window_frames, loss.decode_frames or data.window_frames
        return {
            "frames": moved[0],
            "motion": photometric_view(moved, data.photometric, draw)[0],
            "sound": sound_view(samples[None], draw)[0],
            "alike": log_mel(samples)[: 4 * t].reshape(t, -1),
            "visible_uniform": self._visible(1, draw),
            "visible_face": self._visible(2, draw),
            "chosen": torch.rand(t, generator=draw).argsort()[:count],
            "order": torch.rand(count, generator=draw).argsort(),
        }

    def _visible(self, bypass: int, draw: torch.Generator) -> Tensor:
        config = self.recipe.model
        weights = config.mask.weights(config.encoder.grid, bypass)
        return sample_visible(weights, (1, self.recipe.data.window_frames), config.mask.ratio, draw)[0]

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """The paper's lag table (K = 1, 5, 15), clip-level lag, and R-precision (pool 32), on the validation clips."""
        assert isinstance(module, Pretraining)
        vocals, audios = [], []
        with progress.stage("validate", len(self._validate.clips), "clips") as stage:
            for clip in self._validate.clips:
                vocal, audio = embed_clip(module.network, self._validate.load(clip), device)
                vocals.append(vocal)
                audios.append(audio[:: len(audio) // len(vocal)][: len(vocal)])
                stage.advance()
        return sync_metrics(vocals, audios)

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, Pretraining)
        save_model(module.network, folder, self.recipe.licence, {"validation": metrics})


def window(clip: ClipData, start: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """Frames (T, C, S, S) float 0…1 and their samples (T·640,)."""
    frames = torch.from_numpy(clip.frames[start : start + num_frames]).permute(0, 3, 1, 2).float() / 255
    samples = clip.samples[start * SAMPLES_PER_FRAME : (start + num_frames) * SAMPLES_PER_FRAME]
    return frames, torch.from_numpy(samples)


def embed_clip(network: SyncLipMAE, clip: ClipData, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Unit vocal tokens (T, D) and audio tokens (T·r, D), r per frame, of one prepared clip."""
    margin = (clip.frames.shape[1] - network.config.encoder.image_px) // 2
    inner = slice(margin, clip.frames.shape[1] - margin)
    frames, samples = window(ClipData(clip.frames[:, inner, inner], clip.samples), 0, len(clip.frames))
    vocal = network.encode_vocal(frames[None].to(device))[0]
    audio = network.encode_audio(samples[None].to(device), len(vocal))[0]
    return vocal.cpu().numpy(), audio.cpu().numpy()


def sync_metrics(vocals: list[np.ndarray], audios: list[np.ndarray]) -> dict[str, float]:
    """The paper's table for clips in sync: per-frame Acc±1 and |lag| for each K, clip-level lag, R-precision."""
    similarities = [lag_similarities(vocal, audio) for vocal, audio in zip(vocals, audios, strict=True)]
    truth = [0] * len(vocals)
    metrics: dict[str, float] = {}
    for k in SMOOTHING_FRAMES:
        row = frame_lag_scores(similarities, truth, k)
        metrics |= {f"acc_k{k}": row.clip_accuracy_percent, f"lag_k{k}": row.clip_mean_error_frames}
    clip = clip_lag_scores(similarities, truth)
    metrics |= {"clip_acc": clip.accuracy_percent, "clip_lag": clip.mean_error_frames}
    choices: dict[str, Callable] = {"same": r_precision_same_clip, "cross": r_precision_cross_clip}
    for name, score in choices.items():
        ranks = score(vocals, audios)
        metrics |= {f"r1_{name}": ranks.at_1, f"r2_{name}": ranks.at_2, f"r3_{name}": ranks.at_3}
    return metrics


def lag_similarities(vocal: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """(T, 31) cosine of frame t + lag with the sound of frame t (§4.1), NaN beyond the clip.  (T, D) each."""
    count = len(vocal)
    values = np.full((count, 2 * MAX_LAG_FRAMES + 1), np.nan)
    for column, lag in enumerate(range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1)):
        sound = np.arange(max(0, -lag), min(count, count - lag))
        values[sound, column] = np.einsum("td,td->t", vocal[sound + lag], audio[sound])
    return values
