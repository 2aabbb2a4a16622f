"""Word-level fusion with a language model of random weights: what a sentence gains is the model's own log probability."""

import itertools

import pytest
import torch

from lipsync_cli.core.errors import LipsyncError, WeightsError
from lipsync_cli.networks.vsr.beam import BeamOptions, beam_search
from lipsync_cli.networks.vsr.causal import CausalModel, load_causal
from lipsync_cli.networks.vsr.grammar import Grammar
from lipsync_cli.networks.vsr.units import Units
from tests.language_models import write_random_language_model

CPU = torch.device("cpu")
SENTENCES = ("red", "red now", "now red red", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_random_language_model(tmp_path_factory.mktemp("language")))


def log_probability(folder: str, text: str) -> float:
    """By transformers alone: the sum over a text's tokens and its end, one token at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder).eval(),
    )
    tokens = [tokenizer.eos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    total = 0.0
    for i in range(1, len(tokens)):
        with torch.no_grad():
            total += float(model(torch.tensor([tokens[:i]])).logits[0, -1].log_softmax(-1)[tokens[i]])
    return total


def gained(model: CausalModel, units: Units, text: str) -> float:
    written = [units.end, *units.encode(text), units.end]
    gains = model([written[:i] for i in range(1, len(written))])
    assert (gains <= 0).all()
    return float(sum(gains[i - 1, written[i]] for i in range(1, len(written))))


@pytest.mark.parametrize(
    "units",
    [
        Units.words(["red", "now"]),
        Units.characters(),
        Units(("<blank>", "▁re", "d", "▁", "n", "ow", "<eos>")),
    ],
    ids=["words", "characters", "pieces"],
)
def test_sentence_gains_its_log_probability(folder, units):
    model = load_causal(folder, units, CPU)
    for text in SENTENCES:
        assert gained(model, units, text) == pytest.approx(log_probability(folder, text), abs=1e-3)


def test_search_leans_towards_what_the_model_likes(folder, tiny_reader):
    units = Units.words(["a", "b", "c"])
    reader = tiny_reader(units=len(units))
    grammar = Grammar(units, (frozenset("abc"), frozenset("abc")))
    with torch.no_grad():
        memory = reader.encode(torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1)))[0][0]
    liked = max(
        (f"{one} {two}" for one, two in itertools.product("abc", repeat=2)),
        key=lambda text: log_probability(folder, text),
    )
    model = load_causal(folder, units, CPU)
    options = BeamOptions(beam=100, ctc_weight=0.5, candidates=0)
    plain = beam_search(reader, memory, options, grammar)[0]
    strong = BeamOptions(beam=100, ctc_weight=0.5, candidates=0, language_weight=1000)
    leaning = beam_search(reader, memory, strong, grammar, model)[0]
    assert units.decode(leaning.units) == liked != units.decode(plain.units)


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def damaged_config(folder):
    (folder / "config.json").write_text("{}")


def other_weights(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state.pop("transformer.h.0.mlp.c_fc.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (no_weights, "not a causal"),
        (damaged_config, "not a causal"),
        (other_weights, "lack transformer.h.0.mlp"),
    ],
)
def test_unusable_folders_are_refused(tmp_path, spoil, word):
    folder = write_random_language_model(tmp_path / "language")
    spoil(folder)
    with pytest.raises(WeightsError, match=word) as refused:
        load_causal(str(folder), Units.characters(), CPU)
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    ("source", "code", "word"),
    [
        ("hf:openai-community/gpt2", 2, "not pinned"),
        ("hf:nobody/nothing@" + "0" * 40, 5, "not on this machine"),
    ],
)
def test_hub_models_are_pinned_and_never_downloaded(source, code, word):
    with pytest.raises(LipsyncError, match=word) as refused:
        load_causal(source, Units.characters(), CPU)
    assert refused.value.exit_code == code
