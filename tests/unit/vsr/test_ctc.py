import itertools
import math

import pytest
import torch

from lipsync_cli.networks.vsr.ctc import PrefixScorer, greedy
from tests.ctc_paths import reading_probabilities


@pytest.fixture
def log_probs():
    return (2 * torch.randn(5, 4, generator=torch.Generator().manual_seed(1))).log_softmax(-1)


def test_prefix_scores_are_sums_over_all_paths(log_probs):
    readings = reading_probabilities(log_probs)
    scorer = PrefixScorer(log_probs)
    checked = 0
    for length in range(1, 5):
        for prefix in itertools.product((1, 2, 3), repeat=length):
            state = scorer.start()
            for unit in prefix:
                state = scorer.extend(state, torch.tensor([[unit]]))
            begins = sum(p for reading, p in readings.items() if reading[:length] == prefix)
            assert math.exp(state.score) == pytest.approx(begins, rel=1e-4, abs=1e-9)
            assert math.exp(scorer.ended(state)) == pytest.approx(readings.get(prefix, 0), rel=1e-4, abs=1e-9)
            checked += 1
    assert checked == 3 + 9 + 27 + 81


def test_repeated_unit_needs_a_blank_between():
    always_one = torch.tensor([[-40.0, 0.0], [-40.0, 0.0], [-40.0, 0.0]])
    scorer = PrefixScorer(always_one)
    once = scorer.extend(scorer.start(), torch.tensor([[1]]))
    twice = scorer.extend(once, torch.tensor([[1]]))
    assert float(once.score) == pytest.approx(0, abs=1e-6)
    assert float(twice.score) == pytest.approx(-40)


def test_many_hypotheses_and_candidates_at_once_are_as_one_by_one(log_probs):
    scorer = PrefixScorer(log_probs)
    first = scorer.extend(scorer.start(), torch.tensor([[1, 2, 3]]))
    candidates = torch.tensor([[1, 2], [3, 2], [1, 3]])
    together = scorer.extend(first, candidates)
    for row, column in itertools.product(range(3), range(2)):
        alone = scorer.extend(
            first.select(torch.tensor([row])), candidates[row : row + 1, column : column + 1]
        )
        picked = together.select(torch.tensor([2 * row + column]))
        assert torch.equal(picked.last, alone.last)
        torch.testing.assert_close(picked.score, alone.score)
        torch.testing.assert_close(scorer.ended(picked), scorer.ended(alone))


def test_probabilities_of_what_follows_a_prefix_sum_to_the_prefix(log_probs):
    scorer = PrefixScorer(log_probs)
    state = scorer.extend(scorer.extend(scorer.start(), torch.tensor([[2]])), torch.tensor([[2]]))
    longer = scorer.extend(state, torch.tensor([[1, 2, 3]]))
    parts = torch.cat([longer.score, scorer.ended(state)])
    torch.testing.assert_close(parts.logsumexp(0), state.score[0])


def test_greedy_merges_drops_blanks_and_stops_at_each_clips_length():
    path = torch.tensor([[1, 1, 0, 1, 2, 2], [0, 3, 3, 1, 1, 1]])
    log_probs = torch.nn.functional.one_hot(path, 4).float().log_softmax(-1)
    assert greedy(log_probs, torch.tensor([6, 3])) == [[1, 1, 2], [3]]
