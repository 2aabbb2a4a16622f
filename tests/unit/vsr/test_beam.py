import itertools
import math

import pytest
import torch

from lipsync_cli.core.errors import InconclusiveError
from lipsync_cli.networks.vsr.beam import BeamOptions, Hypothesis, beam_search, word_confidences
from lipsync_cli.networks.vsr.grammar import GRID_SLOTS, Grammar
from lipsync_cli.networks.vsr.language import NgramModel
from lipsync_cli.networks.vsr.units import Units
from tests.ctc_paths import reading_probabilities

FRAMES = 4
FULL = 5000  # a beam that never drops anything here


def memory_of(reader, frames=FRAMES, seed=3):
    tokens = 3 * torch.randn(1, frames, 6, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return reader.encode(tokens)[0][0]


@torch.no_grad()
def joint_scores(reader, memory, ctc_weight, unit_bonus=0.0, language=None, language_weight=0.0):
    """The exact joint score of every sentence: decoder by teacher forcing, CTC by enumeration."""
    readings = reading_probabilities(reader.ctc(memory)[:, :-1])  # no sentence holds the end unit
    real = torch.ones(1, len(memory), dtype=torch.bool)
    scores = {}
    for length in range(len(memory) + 1):
        for units in itertools.product(range(1, reader.end), repeat=length):
            written = (reader.end, *units)
            following = torch.tensor((*units, reader.end))
            logits = reader.decoder(torch.tensor([written]), memory[None], real)[0].log_softmax(-1)
            score = (1 - ctc_weight) * float(logits.gather(1, following[:, None]).sum())
            if ctc_weight:
                reading = readings.get(units, 0)
                score += ctc_weight * (math.log(reading) if reading else -math.inf)
            if language:
                tables = [language([written[: i + 1]])[0] for i in range(len(written))]
                score += language_weight * sum(float(t[u]) for t, u in zip(tables, following, strict=True))
            scores[units] = score + unit_bonus * length
    return scores


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("unit_bonus", [0.0, 0.8])
def test_full_beam_finds_the_exact_n_best(tiny_reader, ctc_weight, unit_bonus):
    reader = tiny_reader()
    memory = memory_of(reader)
    scores = joint_scores(reader, memory, ctc_weight, unit_bonus)
    expected = sorted(scores.items(), key=lambda item: -item[1])[:6]
    options = BeamOptions(beam=FULL, ctc_weight=ctc_weight, unit_bonus=unit_bonus, candidates=0, best=6)
    found = beam_search(reader, memory, options)
    assert [h.units for h in found] == [units for units, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_language_model_is_part_of_the_exact_score(tiny_reader):
    reader = tiny_reader()
    memory = memory_of(reader)
    language = NgramModel([[1, 1, 2], [3, 1]], units=5, order=2)
    scores = joint_scores(reader, memory, 0.2, unit_bonus=5, language=language, language_weight=1.5)
    best = max(scores, key=scores.get)
    without = joint_scores(reader, memory, 0.2, unit_bonus=5)
    assert best != max(without, key=without.get)
    options = BeamOptions(beam=FULL, ctc_weight=0.2, language_weight=1.5, unit_bonus=5, candidates=0)
    found = beam_search(reader, memory, options, language=language)[0]
    assert found.units == best
    assert found.score == pytest.approx(scores[best], abs=1e-4)


@torch.no_grad()
def test_unit_log_probs_are_the_networks_conditionals(tiny_reader):
    reader = tiny_reader()
    memory = memory_of(reader)
    found = beam_search(reader, memory, BeamOptions(beam=FULL, ctc_weight=0.4, candidates=0, unit_bonus=3))[0]
    readings = reading_probabilities(reader.ctc(memory))
    logits = reader.decoder(
        torch.tensor([[reader.end, *found.units]]), memory[None], torch.ones(1, FRAMES, dtype=torch.bool)
    )[0].log_softmax(-1)

    def begins(prefix):
        return sum(p for reading, p in readings.items() if reading[: len(prefix)] == prefix)

    assert len(found.units) >= 2
    for i, unit in enumerate(found.units):
        ctc = math.log(begins(found.units[: i + 1]) / begins(found.units[:i]))
        expected = 0.6 * float(logits[i, unit]) + 0.4 * ctc
        assert found.unit_log_probs[i] == pytest.approx(expected, abs=1e-4)


def test_narrow_beam_with_few_candidates_still_returns_sorted_sentences(tiny_reader):
    reader = tiny_reader(units=12)
    found = beam_search(reader, memory_of(reader, frames=9), BeamOptions(beam=4, candidates=3, best=4))
    assert len(found) == 4
    assert len({h.units for h in found}) == 4
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_grammar_never_lets_an_illegal_sentence_out(tiny_reader, kind):
    words = {word for slot in GRID_SLOTS for word in slot}
    units = Units.characters() if kind == "characters" else Units.words(words)
    reader = tiny_reader(units=len(units))
    grammar = Grammar.grid(units)
    for seed in range(3):
        memory = memory_of(reader, frames=60, seed=seed)
        for hypothesis in beam_search(reader, memory, BeamOptions(beam=5, best=5), grammar):
            sentence = units.decode(hypothesis.units).split()
            assert len(sentence) == 6
            assert all(word in slot for word, slot in zip(sentence, GRID_SLOTS, strict=True))
            confidences = word_confidences(units, hypothesis)
            assert len(confidences) == 6
            assert all(0 <= c <= 1 for c in confidences)


def test_full_beam_under_a_grammar_is_the_best_legal_sentence(tiny_reader):
    units = Units.words(["a", "b", "c"])
    reader = tiny_reader(units=len(units))
    memory = memory_of(reader)
    grammar = Grammar(units, (frozenset("ab"), frozenset("bc")))
    scores = joint_scores(reader, memory, 0.3)
    legal = {u: s for u, s in scores.items() if units.decode(u) in {"a b", "a c", "b b", "b c"}}
    found = beam_search(reader, memory, BeamOptions(beam=FULL, ctc_weight=0.3, candidates=0, best=9), grammar)
    assert [h.units for h in found] == sorted(legal, key=lambda u: -legal[u])


def test_sentence_that_cannot_fit_is_inconclusive(tiny_reader):
    units = Units.words({word for slot in GRID_SLOTS for word in slot})
    reader = tiny_reader(units=len(units))
    with pytest.raises(InconclusiveError, match="5 frames") as caught:
        beam_search(reader, memory_of(reader, frames=5), BeamOptions(), Grammar.grid(units))
    assert caught.value.exit_code == 4


def test_word_confidence_is_the_geometric_mean_of_its_units():
    units = Units.characters("ab")
    log_probs = tuple(math.log(p) for p in (0.5, 0.5, 0.25, 1.0))
    hypothesis = Hypothesis((*units.encode("a"), *units.encode("b")), score=0.0, unit_log_probs=log_probs)
    assert word_confidences(units, hypothesis) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"best": 0}, {"ctc_weight": 1.5}, {"candidates": -1}])
def test_senseless_options_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        BeamOptions(**wrong)
