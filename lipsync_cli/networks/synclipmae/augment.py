"""Changes to a clip that must not change its meaning, drawn once per clip so that motion stays motion.

Shapes: B clips, T frames, C channels, S picture side. Pictures are 0…1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def random_uniform(
    shape: tuple[int, ...], low: float, high: float, generator: torch.Generator | None
) -> Tensor:
    """Uniform numbers in low…high."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def affine_view(frames: Tensor, size_px: int, generator: torch.Generator | None = None) -> Tensor:
    """Turn (±8°), scale (0.9…1.12), shift (±6 %), stretch and mirror a clip while cutting the face square from its margin.

    frames: (B, T, C, M, M) with M ≥ size_px.  Returns (B, T, C, size_px, size_px).
    """
    b, t, c, margin_side, _ = frames.shape
    angle = random_uniform((b,), -8, 8, generator) * math.pi / 180
    zoom = random_uniform((b, 2), 0.94, 1.06, generator) * random_uniform((b, 1), 0.92, 1.1, generator)
    mirror = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0)
    scale = zoom * (size_px / margin_side)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = angle.cos() * scale[:, 0] * mirror
    theta[:, 0, 1] = -angle.sin() * scale[:, 1]
    theta[:, 1, 0] = angle.sin() * scale[:, 0] * mirror
    theta[:, 1, 1] = angle.cos() * scale[:, 1]
    theta[:, :, 2] = random_uniform((b, 2), -0.12, 0.12, generator)
    grid = F.affine_grid(theta, [b, 1, size_px, size_px], align_corners=False).to(frames)
    moved = F.grid_sample(
        frames.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.reshape(b, t, c, size_px, size_px)


def photometric_view(
    frames: Tensor, strength: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Bypass 2's colour, brightness and saturation perturbation (§3.2), with gamma, a light gradient, blur and noise.

    frames: (B, T, C, S, S), 0…1.  strength: 0 leaves the clip alone, 1 is the default.  Returns the same shape.
    """
    b, _, c, side, _ = frames.shape

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return (random_uniform((b, 1, channels, 1, 1), low, high, generator) * strength).to(frames)

    grey = frames.mean(2, keepdim=True)
    x = grey + (frames - grey) * (1 + draw(-0.6, 0.6))  # saturation
    x = x * (1 + draw(-0.15, 0.15, c))  # colour
    mean = x.mean((1, 2, 3, 4), keepdim=True)
    x = mean + (x - mean) * (1 + draw(-0.5, 0.5)) + draw(-0.2, 0.2)  # contrast, brightness
    x = x.clamp(1e-3, 1) ** draw(-0.6, 0.6).exp()  # gamma
    ramp = torch.linspace(-0.5, 0.5, side).to(frames)
    x = x + draw(-0.4, 0.4) * ramp[:, None] + draw(-0.4, 0.4) * ramp  # light from one side
    if float(torch.rand((), generator=generator)) < 0.3 * strength:
        x = F.avg_pool2d(x.flatten(0, 1), 3, 1, 1).reshape(x.shape)
    return x + torch.randn(x.shape, generator=generator).to(x) * draw(0, 0.04)


def sound_view(samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Another recording of the same speech: level (±12 dB), tilt and resonance of the room, noise at 5…40 dB below.

    samples: (B, n), −1…1.  Returns (B, n).
    """
    b, n = samples.shape
    gain_db = random_uniform((b, 1), -14, 8, generator)
    spectrum = torch.fft.rfft(samples)
    position = torch.linspace(0, 1, spectrum.shape[1])
    knots = random_uniform((b, 1, 8), -7, 7, generator)  # a smooth random equaliser, ±7 dB
    curve_db = F.interpolate(knots, spectrum.shape[1], mode="linear", align_corners=True)[:, 0]
    # More of the equaliser's bends belong to low frequencies, where speech is.
    curve_db = curve_db.gather(1, ((position**0.5) * (spectrum.shape[1] - 1)).long().expand(b, -1))
    shaped = torch.fft.irfft(spectrum * 10 ** ((curve_db + gain_db) / 20), n)
    noise = torch.randn(b, n, generator=generator)
    tilt = random_uniform((b, 1), -1.0, 0.0, generator)  # white to brown
    colour = position.clamp_min(1e-3)[None] ** tilt
    noise = torch.fft.irfft(torch.fft.rfft(noise) * colour, n)
    level_db = random_uniform((b, 1), -45, -5, generator)
    rms = shaped.square().mean(1, keepdim=True).sqrt()
    noise = noise / noise.square().mean(1, keepdim=True).sqrt().clamp_min(1e-9)
    return (shaped + noise * rms * 10 ** (level_db / 20)).clamp(-1, 1)
