import pytest
import torch

from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig


@pytest.fixture
def tiny_reader():
    """Reads tokens of 6 numbers; units: blank, three more, end."""

    def make(units: int = 5, **changes) -> LipReader:
        torch.manual_seed(0)
        config = {
            "units": units,
            "reads": "tokens",
            "token_width": 6,
            "width": 16,
            "heads": 2,
            "ffn_width": 24,
            "encoder_blocks": 2,
            "decoder_blocks": 2,
            "kernel_frames": 3,
            **changes,
        }
        reader = LipReader(LipReaderConfig(**config)).eval()
        # Untrained outputs are nearly uniform; sharper ones make choices matter.
        with torch.no_grad():
            reader.ctc.ctc_lo.weight *= 4
            reader.decoder.output_layer.weight *= 4
        return reader

    return make
