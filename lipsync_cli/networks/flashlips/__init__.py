"""FlashLips: lips encoder, one-step latent editor, audio-to-lips flow matching (arXiv:2512.20033).

Reading order: `model` (all of it), `lips` and `resnet` (faces to lips numbers), `editor` and `autoencoder` (lips numbers
to faces), `audio2lips`, `speech` and `sample` (sound to lips numbers), `objective*`, `losses`, `frames` (training). The
small model: `tiny`, `warp_*`, `mesh_lips`.
"""
