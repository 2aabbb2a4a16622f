"""wav2vec 2.0 as transformers reads it: the frozen ear of several rooms."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import ModelFolder


def load_speech_encoder(folder: ModelFolder) -> nn.Module:
    """wav2vec 2.0 from its folder, strictly, without its pretraining head.

    Raises: WeightsError when the folder does not hold the whole encoder.
    """
    from transformers import Wav2Vec2Model

    try:
        loaded: Any = Wav2Vec2Model.from_pretrained(
            folder.path, local_files_only=True, output_loading_info=True
        )
        model, report = loaded
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{folder.path}: not a wav2vec 2.0 folder: {error}", f"lipsync models pull {folder.name}"
        ) from error
    missing = sorted(report["missing_keys"])
    # The mask embedding is used by pretraining alone; encoders saved without it are whole.
    if [name for name in missing if name != "masked_spec_embed"]:
        raise WeightsError(
            f"{folder.path}: the speech encoder lacks '{missing[0]}'.", f"lipsync models verify {folder.name}"
        )
    return model.to(torch.float32)
