"""FlashLips: lips encoder, one-step latent editor, audio-to-lips flow matching (arXiv:2512.20033)."""
