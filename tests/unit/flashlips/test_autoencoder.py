"""Latents: exact for squares of pixels, and diffusers' own for the SDXL VAE."""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lipsync_cli.networks.flashlips.autoencoder import PixelShuffleCodec, SdxlVae


def test_squares_of_pixels_come_back_as_they_were():
    codec = PixelShuffleCodec(4)
    x = torch.randn(2, 3, 16, 24)
    z = codec.encode(x)
    assert z.shape == (2, codec.channels, 4, 6) and codec.stride == 4
    assert torch.equal(codec.decode(z), x)
    assert sorted(z[0, :, 1, 2].tolist()) == sorted(x[0, :, 4:8, 8:12].flatten().tolist())


def test_the_vae_is_scaled_frozen_and_lets_gradients_through():
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    codec = SdxlVae(vae).train()
    assert not vae.training
    x = torch.randn(1, 3, 8, 8)
    z = codec.encode(x)
    mean = vae.quant_conv(vae.encoder(x)).chunk(2, 1)[0]
    torch.testing.assert_close(z, mean * 0.13025)
    z.requires_grad_(True)
    decoded = codec.decode(z)
    torch.testing.assert_close(decoded, vae.decoder(vae.post_quant_conv(mean)), rtol=1e-4, atol=1e-5)
    decoded.sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in codec.parameters())
