import math

import pytest
import torch

from lipsync_cli.networks.vsr.language import NgramModel


def test_witten_bell_by_hand():
    # Units: 0 blank, 1, 2, 3 end and start. Sentences "1 2" and "1 1"; the start is never predicted.
    model = NgramModel([[1, 2], [1, 1]], units=4, order=2)
    # Single units: 1 three times, 2 once, end twice; 6 counts of 3 kinds; uniform over 3.
    unigram = [0, (3 + 3 / 3) / 9, (1 + 3 / 3) / 9, (2 + 3 / 3) / 9]
    # After 1: followed by 2, by 1 and by the end, once each.
    after_one = [0, *((1 + 3 * p) / 6 for p in unigram[1:])]
    # After the start: always 1.
    after_start = [0, (2 + unigram[1]) / 3, unigram[2] / 3, unigram[3] / 3]
    assert model([(3, 1), (3,)]).exp()[0].tolist() == pytest.approx(after_one)
    assert model([(3, 1), (3,)]).exp()[1].tolist() == pytest.approx(after_start)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_even_where_nothing_was_seen(order):
    model = NgramModel([[1, 2, 3, 4], [2, 2, 4]], units=7, order=order)
    log_probs = model([(6,), (6, 1, 2), (6, 5, 5, 5)])
    assert torch.allclose(log_probs.exp().sum(1), torch.ones(3))
    assert (log_probs[:, 1:] > -math.inf).all()
    assert (log_probs[:, 0] == -math.inf).all()


def test_longer_orders_know_longer_sentences():
    sentences = [[1, 2, 1, 3], [1, 2, 1, 3], [2, 1, 2]]
    short, long = (NgramModel(sentences, units=5, order=order) for order in (2, 3))
    assert long([(4, 1, 2, 1)])[0, 3] > short([(4, 1, 2, 1)])[0, 3]


def test_order_is_checked():
    with pytest.raises(ValueError, match="order"):
        NgramModel([], units=4, order=0)
