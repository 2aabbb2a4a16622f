"""SyncLipMAE: the whole pretraining network, and the two branches that every later task uses.

Ling et al. 2025, arXiv:2510.10069, §3.

Shapes: B clips, T frames, C channels, S picture side, N patches, V visible, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsync_cli.audio.mel import log_mel
from lipsync_cli.networks.synclipmae.audio import AudioConfig, MelAudio, SpeechAudio
from lipsync_cli.networks.synclipmae.decoder import DecoderConfig, PromptDecoder
from lipsync_cli.networks.synclipmae.encoder import (
    AMBIENT,
    IDENTITY,
    VOCAL,
    EncoderConfig,
    FrameTokens,
    VisualEncoder,
    patchify,
)
from lipsync_cli.networks.synclipmae.masking import keep_weights, likeliest_visible


@dataclass(frozen=True)
class MaskConfig:
    """What the two bypasses hide.

    ratio: hidden share of both bypasses (paper: 0.75).  face_weight, mouth_weight: how much likelier than background a
    patch on the face or the mouth stays visible in bypass 2 (the paper says "higher", not how much).
    measure_full: measure with every patch visible; otherwise with the view bypass 2 most often has, as in training.
    """

    ratio: float = 0.75
    face_weight: float = 4.0
    mouth_weight: float = 4.0
    measure_full: bool = True

    def weights(self, grid: int, bypass: int) -> Tensor:
        """(N,) keep weights of bypass 1 (uniform) or 2 (face-preserving)."""
        return torch.ones(grid**2) if bypass == 1 else keep_weights(grid, self.face_weight, self.mouth_weight)


@dataclass(frozen=True)
class SyncLipMAEConfig:
    """Sizes of the whole network; the defaults are the paper's (§5).

    centre: subtract a clip's mean token before comparing, so that what never changes (who speaks, which microphone)
    cannot drown what does.  differs from the paper, whose data is large enough to learn this.
    pixel_mean, pixel_std: what pictures 0…1 are normalised by.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    centre: bool = False
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225)


class Views(NamedTuple):
    """What is random about the restoration of a batch.

    visible: (B, T, V) patches of bypass 1.  chosen: (B, t) frames to restore.  order: (B, t) a permutation of those, by
    which identity is shuffled.
    """

    visible: Tensor
    chosen: Tensor
    order: Tensor


class Restoration(NamedTuple):
    """Both decoding passes of some frames: (n, N, C·P·P) each, with the target and the three factors (n, D)."""

    from_vocal: Tensor
    from_audio: Tensor
    target: Tensor
    identity: Tensor
    ambient: Tensor
    vocal: Tensor


class SyncLipMAE(nn.Module):
    """Encoder, audio branch and decoder of the paper's Figure 1(a)."""

    face_weights: Tensor

    def __init__(self, config: SyncLipMAEConfig, speech_encoder: nn.Module | None = None) -> None:
        """speech_encoder: a transformers Wav2Vec2Model, needed by the "wav2vec2" audio branch."""
        super().__init__()
        self.config = config
        sizes = config.encoder
        self.encoder = VisualEncoder(sizes)
        self.audio: MelAudio | SpeechAudio
        if config.audio.branch == "mel":
            self.audio = MelAudio(config.audio, sizes.width)
        else:
            assert speech_encoder is not None, "the wav2vec2 branch needs its encoder"
            self.audio = SpeechAudio(config.audio, sizes.width, speech_encoder)
        self.decoder = PromptDecoder(
            config.decoder, sizes.width, sizes.num_patches, sizes.channels * sizes.patch_px**2
        )
        self.register_buffer("face_weights", config.mask.weights(sizes.grid, 2), persistent=False)

    def normalise(self, frames: Tensor) -> Tensor:
        """Pictures 0…1, (B, T, C, S, S), as the encoder wants them."""
        mean = frames.new_tensor(self.config.pixel_mean).view(-1, 1, 1)
        return (frames - mean) / frames.new_tensor(self.config.pixel_std).view(-1, 1, 1)

    def shared_space(self, tokens: Tensor, mean: Tensor | None = None) -> Tensor:
        """Tokens (B, n, D) as unit vectors whose products are the similarities of §4.1.

        mean: (B, 1, D) of all tokens of the clip, where these are a part of them.
        """
        tokens = tokens.float()
        if self.config.centre:
            tokens = tokens - (tokens.mean(1, keepdim=True) if mean is None else mean)
        return F.normalize(tokens, dim=-1)

    def factors(self, frames: Tensor) -> FrameTokens:
        """All tokens of whole pictures (B, T, C, S, S), 0…1, in the view of `MaskConfig.measure_full`."""
        shape, count = (frames.shape[0], frames.shape[1]), self.config.encoder.num_patches
        if self.config.mask.measure_full:
            visible = torch.arange(count, device=frames.device).expand(*shape, -1)
        else:
            visible = likeliest_visible(self.face_weights, shape, self.config.mask.ratio)
        return self.encoder(self.normalise(frames), visible)

    def encode_vocal(self, frames: Tensor) -> Tensor:
        """Vocal-motion tokens for comparing: pictures (B, T, C, S, S), 0…1 → (B, T, D), unit norm."""
        return self.shared_space(self.factors(frames).prompts[:, :, VOCAL])

    def encode_audio(self, samples: Tensor, num_frames: int) -> Tensor:
        """Audio tokens for comparing: 16 kHz sound of T frames (B, n) → (B, T·r, D), unit norm, r per frame."""
        return self.shared_space(self.audio(self.hear(samples, num_frames)))

    def hear(self, samples: Tensor, num_frames: int) -> Tensor:
        """The audio branch's features: (B, 4·T, bands) at 100 Hz, or (B, T, L·H) at the frame rate."""
        if isinstance(self.audio, MelAudio):
            return log_mel(samples)[:, : self.audio.rate_hz // 25 * num_frames]
        return self.audio.features(samples, num_frames)

    def audio_tokens(self, features: Tensor, num_frames: int) -> Tensor:
        """One audio token per video frame: features (B, n, F) → (B, T, D)."""
        tokens = self.audio(features)
        return tokens[:, :: tokens.shape[1] // num_frames][:, :num_frames]

    def restore(self, frames: Tensor, motion: Tensor, audio: Tensor, views: Views) -> Restoration:
        """Bypass 1 and the two decoding passes for the chosen frames of each clip (§3.2).

        frames: (B, T, C, S, S) normalised, unperturbed.  motion: (B, T, 3, D), bypass 2's prompts.  audio: (B, T, D).
        """
        visible, chosen, order = views
        clip = torch.arange(len(chosen), device=chosen.device)[:, None]
        seen = self.encoder(frames, visible, chosen)
        identity = seen.prompts[clip, order, IDENTITY]  # identity-consistent prompt shuffling
        ambient, vocal = motion[clip, chosen, AMBIENT], motion[clip, chosen, VOCAL]
        patches, places = seen.patches.flatten(0, 1), visible[clip, chosen].flatten(0, 1)

        def decode(condition: Tensor) -> Tensor:
            return self.decoder(patches, places, torch.stack([identity, ambient, condition], 2).flatten(0, 1))

        return Restoration(
            from_vocal=decode(vocal),
            from_audio=decode(audio[clip, chosen]),
            target=patchify(frames[clip, chosen], self.config.encoder.patch_px).flatten(3).flatten(0, 1),
            identity=identity.flatten(0, 1),
            ambient=ambient.flatten(0, 1),
            vocal=vocal.flatten(0, 1),
        )
