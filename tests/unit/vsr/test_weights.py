"""Published files, with made-up numbers in them: found, converted and loaded as the published ones would be."""

import json

import pytest
import torch

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.networks.vsr.weights import find_reader, load_reader
from tests.read_clips import write_published_reader

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_published_reader(tmp_path_factory.mktemp("published"))


def test_all_767_tensors_arrive(folder):
    published = torch.load(folder / "model.pth", weights_only=True)
    loaded = load_reader(find_reader(str(folder)), CPU)
    ours = loaded.reader.state_dict()
    assert len(published) == len(ours) == 767
    assert torch.equal(
        ours["frontend.frontend3D.0.weight"], published["encoder.frontend.frontend3D.0.weight"]
    )
    assert torch.equal(ours["proj_encoder.bias"], published["encoder.embed.0.bias"])
    assert torch.equal(ours["decoder.decoders.5.norm3.bias"], published["decoder.decoders.5.norm3.bias"])
    assert (loaded.embedder, loaded.window_frames) == (None, 400)
    assert loaded.units.names[3] == "▁RED"


def one_name_less(folder):
    state = torch.load(folder / "model.pth", weights_only=True)
    del state["ctc.ctc_lo.bias"]
    torch.save(state, folder / "model.pth")


def other_width(folder):
    description = json.loads((folder / "model.json").read_text())
    description[2]["adim"] = 32
    (folder / "model.json").write_text(json.dumps(description))


def no_description(folder):
    (folder / "model.json").unlink()


def text_for_weights(folder):
    (folder / "model.pth").write_text("these are no weights")


def no_units(folder):
    (folder / "model.json").write_text("[1, 2, {}]")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (one_name_less, "ctc.ctc_lo.bias"),
        (other_width, "32"),
        (no_description, "model.json"),
        (text_for_weights, "damaged"),
        (no_units, "not the description of a lip reader"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, spoil, word):
    folder = write_published_reader(tmp_path / "published")
    spoil(folder)
    with pytest.raises(WeightsError, match=word) as refused:
        load_reader(find_reader(str(folder)), CPU)
    assert refused.value.exit_code == 5
