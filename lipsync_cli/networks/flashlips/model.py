"""FlashLips as one module: as many of its networks as have been trained so far.

Shapes: N frames (N, 3, S, S), −1…1; masks (N, 1, S, S), 1 where the mouth is; M lips numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.flashlips.audio2lips import AudioToLips, AudioToLipsConfig
from lipsync_cli.networks.flashlips.autoencoder import Autoencoder, PixelShuffleCodec, SdxlVae
from lipsync_cli.networks.flashlips.editor import EditorConfig, LatentEditor
from lipsync_cli.networks.flashlips.lips import (
    DistilledConfig,
    DistilledLipsEncoder,
    ExpressionConfig,
    ExpressionEncoder,
    LipsConfig,
    LipsEncoder,
)

NETWORKS = ("expression", "lips", "distilled", "editor", "audio2lips")


@dataclass(frozen=True)
class AutoencoderConfig:
    """kind: "sdxl" or "pixels".  pretrained: catalogue name of the former.  factor: of the latter."""

    kind: str = "sdxl"
    pretrained: str = "sdxl-vae"
    factor: int = 4


@dataclass(frozen=True)
class FlashLipsConfig:
    """What a model folder holds; None for a network that it does not.

    image_px: S, of aligned crops without margin.  masked: whether the editor is shown frames without their mouths (the
    reconstruction editor), or as they are (LipsChange).
    """

    image_px: int = 512
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    masked: bool = True
    expression: ExpressionConfig | None = None
    lips: LipsConfig | None = None
    distilled: DistilledConfig | None = None
    editor: EditorConfig | None = None
    audio2lips: AudioToLipsConfig | None = None


class FlashLips(nn.Module):
    """The networks that there are; the frozen autoencoder is not among them."""

    expression: ExpressionEncoder | None
    lips: LipsEncoder | None
    distilled: DistilledLipsEncoder | None
    editor: LatentEditor | None
    audio2lips: AudioToLips | None

    def __init__(self, config: FlashLipsConfig, networks: Mapping[str, nn.Module | None]) -> None:
        """config: but for the networks, whose configurations are their own.  networks: by the names above."""
        super().__init__()
        for name in NETWORKS:
            setattr(self, name, networks.get(name))
        own = {name: getattr(networks.get(name), "config", None) for name in NETWORKS}
        self.config = replace(config, **own)

    def with_networks(self, **networks: nn.Module | None) -> FlashLips:
        """These networks in place of those of the same name, or beside the others; None leaves one out."""
        return FlashLips(self.config, dict(self.named_children()) | networks)

    def read_lips(self, faces: Tensor) -> Tensor:
        """Lips numbers by the distilled encoder, or before there is one by the full one.  (N, 3, S, S) → (N, M)."""
        encoder = self.distilled or self.lips
        assert encoder is not None
        return encoder(faces)

    def edit(
        self, autoencoder: Autoencoder, faces: Tensor, masks: Tensor, features: Tensor, lips: Tensor
    ) -> Tensor:
        """Faces with other mouths.

        features: of `reference_features`.  lips: (N, M).  Returns (N, 3, S, S), about −1…1.
        """
        assert self.editor is not None
        shown = without_mouth(faces, masks) if self.config.masked else faces
        return autoencoder.decode(self.editor.edit(autoencoder.encode(shown), features, lips))

    def reference_features(self, autoencoder: Autoencoder, reference: Tensor) -> Tensor:
        """f_ref of a frame of the face, once for a clip.  (1, 3, S, S) → (1, F, h, w)."""
        assert self.editor is not None
        return self.editor.reference(autoencoder.encode(reference))


def build_flashlips(config: FlashLipsConfig, speech: nn.Module | None = None) -> FlashLips:
    """Untrained networks, as many as are configured.  speech: wav2vec 2.0, where `audio2lips` hears with it."""
    networks: dict[str, nn.Module | None] = {
        "expression": ExpressionEncoder(config.expression) if config.expression else None,
        "lips": LipsEncoder(config.lips) if config.lips else None,
        "distilled": DistilledLipsEncoder(config.distilled) if config.distilled else None,
        "editor": LatentEditor(config.editor) if config.editor else None,
        "audio2lips": AudioToLips(config.audio2lips, speech) if config.audio2lips else None,
    }
    return FlashLips(config, networks)


def without_mouth(faces: Tensor, masks: Tensor) -> Tensor:
    """x_masked of §3.1.1: mid-grey where the mask is 1."""
    return faces * (1 - masks)


def load_autoencoder(config: AutoencoderConfig) -> PixelShuffleCodec | SdxlVae:
    """Frozen.  Raises: WeightsError when its weights are not on this machine."""
    if config.kind == "pixels":
        return PixelShuffleCodec(config.factor)
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    folder = load_model_folder(config.pretrained)
    vae: Any = AutoencoderKL.from_pretrained(folder.path, local_files_only=True)
    return SdxlVae(vae)
