"""StableSyncNet as what `offset` measures with: windows, batches, and where in time a token stands."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lipsync_cli.networks.latentsync.embed import StableSyncNetEmbedder
from lipsync_cli.networks.latentsync.syncnet import StableSyncNetConfig
from lipsync_cli.sync.similarity import banded_similarity


def crops(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 80, 80, 3), dtype=np.uint8))


def test_a_token_for_every_picture_and_every_twenty_ms(tiny_syncnet):
    embedder = StableSyncNetEmbedder(tiny_syncnet, torch.device("cpu"), {"bias_ms": 7, "systematic_ms": 5})
    pictures = embedder.embed_pictures(crops(3))
    sound = embedder.embed_sound(np.zeros(3 * 640, np.float32))
    assert pictures.dtype == sound.dtype == np.float16
    assert len(pictures) == 3 and len(sound) == 6 and pictures.shape[1] == sound.shape[1]
    assert embedder.audio_rate == 50 and (embedder.bias_ms, embedder.systematic_ms) == (7, 5)
    assert np.allclose(np.linalg.norm(embedder.comparable(sound), axis=1), 1)


def test_pictures_in_batches_are_pictures_at_once(tiny_syncnet):
    embedder = StableSyncNetEmbedder(tiny_syncnet, torch.device("cpu"))
    film, context = crops(40), embedder.context_frames
    whole = embedder.embed_pictures(film)
    first = embedder.embed_pictures(film[:30])[: 30 - context]
    rest = embedder.embed_pictures(film[30 - 2 * context :])[context:]
    assert np.allclose(np.concatenate([first, rest]), whole, atol=2e-3)


def test_sound_in_blocks_is_sound_at_once(tiny_syncnet):
    embedder = StableSyncNetEmbedder(tiny_syncnet, torch.device("cpu"))
    wave = np.random.default_rng(1).normal(0, 0.1, 32000).astype(np.float32)
    whole = embedder.embed_sound(wave)
    context = 6400  # 0.4 s, 20 tokens
    first = embedder.embed_sound(wave[: 16000 + context])[:50]
    rest = embedder.embed_sound(wave[16000 - context :])[20:]
    assert np.allclose(np.concatenate([first, rest]), whole, atol=2e-3)


class Trained(nn.Module):
    """Answers as a network trained on windows that start at frame f and mel column ⌊3.2·f⌋ would for pictures that are as
    bright as the sound is loud: with the course of either over the 16 frames.
    """

    config = StableSyncNetConfig()

    def embed_frames(self, frames):
        return self._course(frames.unflatten(1, (16, 3)).mean((2, 3, 4)))

    def embed_mel(self, mel):
        loudness = mel.mean((1, 2))
        place = 3.2 * torch.arange(16) + 0.4  # 3.2·(f + i) − ⌊3.2·f⌋ in the mean over f
        low = place.floor().long()
        share = place - low
        return self._course((1 - share) * loudness[:, low] + share * loudness[:, low + 1])

    def _course(self, values):
        return F.normalize(values - values.mean(1, keepdim=True), dim=1)


@pytest.mark.parametrize("lead_ms", [0, 120, -200])
def test_leads_are_found_where_they_are(lead_ms):
    embedder = StableSyncNetEmbedder(Trained(), torch.device("cpu"))
    times = np.arange(100) / 25

    def level(seconds):  # 0…1, slow enough for both
        return 0.5 + 0.25 * np.sin(2 * np.pi * 1.3 * seconds) + 0.2 * np.sin(2 * np.pi * 2.1 * seconds + 1)

    film = [np.full((320, 320, 3), round(255 * v), np.uint8) for v in level(times)]
    samples = np.arange(64000) / 16000
    noise = np.random.default_rng(0).normal(0, 1, 64000)
    wave = (0.3 * noise * 10 ** (2 * level(samples + lead_ms / 1000) - 2)).astype(np.float32)  # heard early
    band = banded_similarity(
        embedder.comparable(embedder.embed_pictures(film)),
        embedder.comparable(embedder.embed_sound(wave)),
        audio_rate=embedder.audio_rate,
        audio_start_s=Fraction(0),
        max_lead_ms=400,
    )
    curve = np.nanmean(band.values[20:-20], axis=0)
    left, peak, right = curve[(best := int(curve.argmax())) - 1 : best + 2]
    between = 0.5 * (left - right) / (left - 2 * peak + right)
    assert peak > 0.9
    assert band.leads_ms[best] + 20 * between == pytest.approx(lead_ms, abs=4)


def test_the_mouth_lies_in_the_lower_half():
    """Of our crop the canvas shows the shares 0.05 to 0.95 across and −0.104 to 1.096 down."""
    seen = []

    class Watching(Trained):
        def embed_frames(self, frames):
            seen.append(frames)
            return super().embed_frames(frames)

    picture = np.zeros((320, 320, 3), np.uint8)
    row, column = 32 + round(0.66 * 256), 32 + 128  # where the face square has the mouth
    picture[row - 2 : row + 3, column - 2 : column + 3] = 255
    StableSyncNetEmbedder(Watching(), torch.device("cpu")).embed_pictures([picture])
    assert seen[0].shape == (1, 48, 128, 256)
    rows, columns = (seen[0][0, 0] > 0).nonzero().float().mean(0)
    assert (rows + 128) / 256 == pytest.approx((0.66 + 0.104) / 1.2, abs=0.01)
    assert columns / 256 == pytest.approx(0.5, abs=0.01)
