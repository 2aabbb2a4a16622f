import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import SILENT
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.vsr.beam import BeamOptions
from lipsync_cli.networks.vsr.losses import NO_UNIT
from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig
from lipsync_cli.networks.vsr.mouths import MouthWindow
from lipsync_cli.networks.vsr.objective import (
    LipReadingConfig,
    LipReadingObjective,
    Sentence,
    average_states,
    cut_times,
    said_units,
    splice,
)
from lipsync_cli.networks.vsr.units import Units

UNITS = Units.words(["red", "green", "blue"])
TINY = {"frontend_width": 2, "width": 16, "heads": 2, "ffn_width": 24, "kernel_frames": 3, "dropout": 0.0}


def sentence(text: str) -> Sentence:
    """Each word is two frames of its own picture, with an empty frame before each."""
    patterns = {"red": (0, 8), "green": (8, 16), "blue": (16, 24)}
    frames = []
    for word in text.split():
        frame = torch.zeros(24, 32, dtype=torch.uint8)
        frame[slice(*patterns[word])] = 255
        frames += [torch.zeros_like(frame), frame, frame]
    return Sentence(torch.stack(frames), text)


@pytest.fixture
def objective():
    texts = ["red green", "green red", "blue", "red blue blue", "blue green"]
    config = LipReadingConfig(
        model=LipReaderConfig(units=len(UNITS), encoder_blocks=1, decoder_blocks=1, **TINY),
        mouth=MouthWindow(height_px=24, width_px=30),
        frames=10,
        units=4,
        mask_frames=0,
        decode=BeamOptions(beam=4),
    )
    return LipReadingObjective(
        config,
        UNITS,
        [sentence(t) for t in texts],
        {"seen": [sentence("red green"), sentence("blue")], "other": [sentence("blue green")]},
        licence="CC0-1.0",
    )


def stacked(objective, numbers):
    examples = [objective.example(n) for n in numbers]
    return {name: torch.stack([e[name] for e in examples]) for name in examples[0]}


def test_examples_depend_on_their_number_alone_and_every_sentence_comes_once_an_epoch(objective):
    for epoch in range(3):
        targets = [objective.example(5 * epoch + i)["targets"].tolist() for i in range(5)]
        assert len({tuple(t) for t in targets}) == 5
    again = objective.example(7)
    assert all(torch.equal(again[name], tensor) for name, tensor in objective.example(7).items())
    assert again["inputs"].shape == (10, 1, 24, 30)
    orders = {tuple(objective.example(5 * e + i)["lengths"].item() for i in range(5)) for e in range(6)}
    assert len(orders) > 1


def test_training_learns_to_read_and_the_exported_model_reads_the_same(objective, tmp_path):
    torch.manual_seed(0)
    module = objective.build().train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=5e-3)
    before = objective.validate(module.eval(), torch.device("cpu"), SILENT)
    module.train()
    for step in range(80):
        optimiser.zero_grad()
        losses = module(stacked(objective, range(5 * step, 5 * step + 5)))
        losses["loss"].backward()
        optimiser.step()
    metrics = objective.validate(module.eval(), torch.device("cpu"), SILENT)
    assert before["wer"] > 0
    assert {name: metrics[name] for name in ("wer", "cer", "sentences")} == {
        "wer": 0,
        "cer": 0,
        "sentences": 1,
    }
    assert metrics["other_wer"] == 0

    objective.export(module, tmp_path / "model", metrics)
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    config = described["config"]
    assert described["preprocess"]["mouth"]["width_px"] == 30
    names, known = tuple(config.pop("unit_names")), config.pop("metrics")
    assert (described["network"], described["licence"], known["wer"]) == ("vsr", "CC0-1.0", 0)
    assert Units(names) == UNITS
    other = LipReader(LipReaderConfig(**config)).eval()
    load_strictly(other, load_file(tmp_path / "model" / "model.safetensors"), tmp_path)
    video = torch.randn(1, 6, 1, 24, 30)
    assert torch.equal(other.encode(video)[0], module.reader.encode(video)[0])


def test_frames_are_labelled_with_the_word_being_said():
    said = Sentence(torch.zeros(8, 4, 4), "red blue", (("red", 0.04, 0.12), ("blue", 0.12, 0.125)))
    red, blue = (UNITS.encode(word)[0] for word in ("red", "blue"))
    # frame k lies at k / 25 s; a word shorter than a frame still gets one
    assert said_units(said, UNITS, 8).tolist() == [0, red, red, blue, 0, 0, 0, 0]
    assert said_units(sentence("red"), UNITS, 3).tolist() == [NO_UNIT] * 3
    with pytest.raises(UsageError, match='"red" is 4') as refused:
        said_units(said, Units.characters(), 8)
    assert refused.value.exit_code == 2


def test_cut_holds_every_word_wherever_it_falls():
    said = Sentence(torch.zeros(20, 4, 4), "red blue", (("red", 0.2, 0.28), ("blue", 0.28, 0.42)))
    cuts = {cut_times(said, 20, 10, torch.Generator().manual_seed(n)) for n in range(60)}
    assert cuts == {(first, first + 10) for first in range(1, 6)}  # words in frames 5…11
    assert cut_times(said, 20, 4, torch.Generator()) == (0, 20)  # no cut can hold them
    assert cut_times(sentence("red"), 20, 10, torch.Generator()) == (0, 20)  # no times known


def test_packs_hold_each_clip_once_within_the_budget(objective):
    lengths = [6, 6, 3, 9, 6]
    config = replace(objective.config, frames_per_example=18)
    train = [sentence(t) for t in ("red green", "green red", "blue", "red blue blue", "blue green")]
    packed = LipReadingObjective(config, UNITS, train, {}, lengths=lengths)
    batches = [packed.example(n) for n in range(2)]
    assert sorted(int(n) for b in batches for n in b["lengths"]) == sorted(lengths)
    assert all(b["inputs"].shape[0] * b["inputs"].shape[1] <= 18 for b in batches)
    losses = packed.build()({name: tensor[None] for name, tensor in batches[0].items()})
    assert torch.isfinite(losses["loss"])


def test_average_of_checkpoints_is_the_mean_of_their_weights(tmp_path):
    for number, value in enumerate([1.0, 2.0, 6.0]):
        folder = tmp_path / str(number)
        folder.mkdir()
        state = {"reader.weight": torch.full((2,), value), "reader.count": torch.tensor(number)}
        save_file(state, folder / "model.safetensors")
    mean = average_states([tmp_path / str(n) for n in range(3)])
    assert mean["weight"].tolist() == [3, 3] and mean["count"].item() == 1
    assert mean["count"].dtype == torch.int64


def test_clip_that_does_not_fit_is_refused(objective):
    long = LipReadingObjective(objective.config, UNITS, [sentence("red red red red")], {})
    with pytest.raises(ValueError, match="12 frames or units do not fit into a batch's 10"):
        long.example(0)


def test_units_must_be_the_models(objective):
    with pytest.raises(ValueError, match="writes 5 units and the list holds 29"):
        LipReadingObjective(objective.config, Units.characters("abcdefghijklmnopqrstuvwxyz"), [], {})


@pytest.mark.parametrize("shape", [(20, 4, 4), (2, 20, 3)])  # mouths, and two views of tokens
def test_splice_joins_the_words_of_two_clips_at_their_starts(shape):
    dtype = torch.uint8 if shape[0] == 20 else torch.float16
    first = Sentence(torch.zeros(shape).to(dtype), "red green", (("red", 0.08, 0.2), ("green", 0.2, 0.4)))
    second = Sentence(torch.ones(shape).to(dtype), "blue red", (("blue", 0.2, 0.32), ("red", 0.32, 0.44)))
    joined = splice(first, second, 20, torch.Generator())
    assert joined.text == "red red"
    assert joined.words == (("red", 0.08, 0.2), ("red", pytest.approx(0.2), pytest.approx(0.32)))
    frames = joined.picture if shape[0] == 20 else joined.picture[1]
    shown = frames.flatten(1).float().mean(1).tolist()
    assert shown == [0] * 5 + [1] * 12  # up to 0.2 s of the first, from 0.32 s of the second
    assert splice(first, second, 7, torch.Generator()) is first  # "red" would be cut off
    assert splice(first, replace(second, words=()), 20, torch.Generator()) is first
