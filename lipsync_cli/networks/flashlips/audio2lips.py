"""From speech to lips numbers by flow matching (§3.2, table A.3).

Shapes: N windows of T frames, M lips numbers, K references of the lips, E emotions, P pose numbers, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipsync_cli.faces.align import EYES_TO_MOUTH, STABLE_INDICES, CropGeometry
from lipsync_cli.networks.blocks.attention import attention
from lipsync_cli.networks.flashlips.speech import MelSpeech, SpeechConfig, Wav2Vec2Speech

TIME_FEATURES = 256
TIME_SCALE = 1000  # t runs 0…1; the sinusoids were made for steps


@dataclass(frozen=True)
class AudioToLipsConfig:
    """Sizes; the defaults are table A.3's.

    frames: T of a window.  lips: M, d_w.  references: K, n_id.  emotions: E, d_e, 0 for a model without.
    pose: P, d_p: 16 in the table, while eq. 12 and its text name no pose; see `head_pose`; 0 for a model without.
    """

    speech: SpeechConfig = field(default_factory=SpeechConfig)
    frames: int = 60
    lips: int = 12
    references: int = 4
    emotions: int = 7
    pose: int = 16
    width: int = 1024
    depth: int = 8
    heads: int = 8

    @property
    def condition(self) -> int:
        """d_cond."""
        return self.lips * self.references + self.speech.width + self.emotions


class AudioToLips(nn.Module):
    """v_θ of eq. 12, and what it hears with. Lips numbers are normalised by the statistics of the training clips."""

    position: Tensor
    lips_mean: Tensor
    lips_std: Tensor

    def __init__(self, config: AudioToLipsConfig, encoder: nn.Module | None = None) -> None:
        """encoder: wav2vec 2.0, for a model that hears with it."""
        super().__init__()
        self.config = config
        if config.speech.branch == "mel":
            self.speech = MelSpeech(config.speech)
        else:
            assert encoder is not None
            self.speech = Wav2Vec2Speech(config.speech, encoder)
        width = config.width
        self.motion = nn.Linear(config.lips + config.pose, width)
        self.condition = nn.Linear(config.condition, width)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("position", sinusoids(torch.arange(config.frames), width), persistent=False)
        self.blocks = nn.ModuleList(FlowBlock(width, config.heads) for _ in range(config.depth))
        self.modulate = nn.Sequential(nn.SiLU(), _from_zero(nn.Linear(width, 2 * width)))
        self.output = _from_zero(nn.Linear(width, config.lips))
        self.register_buffer("lips_mean", torch.zeros(config.lips))
        self.register_buffer("lips_std", torch.ones(config.lips))

    def normalise(self, lips: Tensor) -> Tensor:
        """Lips numbers as the encoder gives them → with mean 0 and deviation 1 over the training clips."""
        return (lips - self.lips_mean) / self.lips_std

    def restore(self, lips: Tensor) -> Tensor:
        """The other way."""
        return lips * self.lips_std + self.lips_mean

    def embed_condition(self, heard: Tensor, references: Tensor, emotion: Tensor | None = None) -> Tensor:
        """Linear of [w_r, w_a, w_e], the same at every step of the flow.

        heard: (N, T, d_a).  references: (N, K, M), normalised.  emotion: (N, E) logits, zeros without a classifier.
        Returns (N, T, D).
        """
        n, t, _ = heard.shape
        if emotion is None:
            emotion = heard.new_zeros(n, self.config.emotions)
        steady = torch.cat([references.flatten(1), emotion], 1)[:, None].expand(-1, t, -1)
        w_r, w_e = steady.split([references[0].numel(), self.config.emotions], -1)
        return self.condition(torch.cat([w_r, heard, w_e], -1))

    def forward(self, z: Tensor, t: Tensor, condition: Tensor, pose: Tensor | None = None) -> Tensor:
        """The velocity v_θ(z_t, t, c).

        z: (N, T, M), normalised; T at most `frames`.  t: (N,), 0 noise … 1 lips.  condition: of `embed_condition`.
        pose: (N, T, P) of the frames to be changed, zeros when not known.  Returns (N, T, M).
        """
        if pose is None:
            pose = z.new_zeros(*z.shape[:2], self.config.pose)
        x = self.motion(torch.cat([z, pose], -1)) + self.position[: z.shape[1]]
        c = condition + self.time(sinusoids(t * TIME_SCALE, TIME_FEATURES))[:, None]
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulate(c).chunk(2, -1)
        return self.output(modulated(x, shift, scale))


class FlowBlock(nn.Module):
    """Self-attention and an MLP of four times the width, shifted, scaled and gated by the condition of each frame.

    (N, T, D), condition (N, T, D) → (N, T, D).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulate = nn.Sequential(nn.SiLU(), _from_zero(nn.Linear(width, 6 * width)))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(condition).chunk(6, -1)
        h = self.qkv(modulated(x, shift1, scale1))
        q, k, v = h.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + gate1 * self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        return x + gate2 * self.mlp(modulated(x, shift2, scale2))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights of its own, then AdaLN's.  All (N, T, D)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Fixed features of numbers: (n,) → (n, width), sines then cosines of periods from 2π to 2π·10⁴."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=values.device) / half)
    angles = values.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def flow_matching_loss(velocity: Tensor, lips: Tensor, noise: Tensor) -> Tensor:
    """Eq. 11 and 12: squared distance to u = z_lips − ε, the mean over all numbers.  (N, T, M) each."""
    return (velocity.float() - (lips - noise).float()).square().mean()


def noised(lips: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Eq. 10: (1 − t)·ε + t·z_lips.  (N, T, M), (N, T, M), (N,)."""
    t = t[:, None, None]
    return (1 - t) * noise + t * lips


def head_pose(landmarks: np.ndarray) -> np.ndarray:
    """16 numbers of how a head is turned: eight stable points of aligned landmarks, less where they stand in a face
    that looks straight ahead.

    # differs from the paper, whose d_p = 16 numbers are not described

    landmarks: (T, 478, 2), pixels of an aligned crop.  Returns (T, 16) float32, in distances from eyes to mouth.
    """
    template = CropGeometry(size_px=1).template() / EYES_TO_MOUTH
    points = landmarks[:, STABLE_INDICES].astype(np.float64)
    points = points - points.mean(1, keepdims=True)
    template = template - template.mean(0)
    scale = np.linalg.norm(template) / np.linalg.norm(points, axis=(1, 2), keepdims=True)
    return (points * scale - template)[:, :8].reshape(len(points), 16).astype(np.float32)


def _from_zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
