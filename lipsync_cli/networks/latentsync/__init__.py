"""Dubbing by latent diffusion: LatentSync's U-Net and StableSyncNet, name for name and number for number.

Li et al. 2024, "LatentSync: Audio Conditioned Latent Diffusion Models for Lip Sync", and the published code.

Reading order: `unet` (the whole network), `attention` and `motion` (its parts), `align` and `mask` (what it is
shown of a picture), `codec` (pictures to latents), `audio` (what it hears), `sample` (from noise to latents), `syncnet`,
`mel` and `embed` (StableSyncNet), `objective` and `unet_objective` (training both), `convert` (published weights).
"""
