import functools
import random

import pytest

from lipsync_cli.metrics.text import (
    EditCounts,
    align,
    character_errors,
    corpus_rate,
    count_edits,
    mean_rate,
    normalise_text,
    word_errors,
)


def fewest_edits(reference, hypothesis) -> int:
    """The edit distance by its recursive definition."""

    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        replaced = distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(replaced, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(reference), len(hypothesis))


def test_counts_are_a_shortest_edit_and_the_alignment_spells_both_sides():
    draw = random.Random(0)
    for _ in range(400):
        reference = tuple(draw.choices("abc", k=draw.randrange(8)))
        hypothesis = tuple(draw.choices("abc", k=draw.randrange(8)))
        counts, pairs = count_edits(reference, hypothesis), align(reference, hypothesis)
        assert counts.errors == fewest_edits(reference, hypothesis)
        assert tuple(r for r, _ in pairs if r is not None) == reference
        assert tuple(h for _, h in pairs if h is not None) == hypothesis
        assert counts.length == len(reference)
        assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "deletions", "insertions", "rate"),
    [
        ("bin blue at f two now", "bin blue at f two now", 0, 0, 0, 0),
        ("bin blue at f two now", "bin blue by f two now", 1, 0, 0, 1 / 6),
        ("bin blue at f two now", "bin at f two now", 0, 1, 0, 1 / 6),
        ("bin blue at f two now", "bin blue at at f two now", 0, 0, 1, 1 / 6),
        ("bin blue", "lay green with a", 2, 0, 2, 2),
        ("bin blue", "", 0, 2, 0, 1),
        ("", "", 0, 0, 0, 0),
        ("", "bin", 0, 0, 1, float("inf")),
    ],
)
def test_word_errors_by_hand(reference, hypothesis, substitutions, deletions, insertions, rate):
    counts = word_errors(reference, hypothesis)
    assert (counts.substitutions, counts.deletions, counts.insertions) == (
        substitutions,
        deletions,
        insertions,
    )
    assert counts.rate == pytest.approx(rate)


def test_character_errors_count_spaces_once():
    assert character_errors("a  b", " a b ") == EditCounts(0, 0, 0, 3)
    assert character_errors("kitten", "sitting") == EditCounts(2, 0, 1, 6)
    assert character_errors("a b", "ab") == EditCounts(0, 1, 0, 3)


def test_alignment_says_what_stands_for_what():
    assert align(["set", "red", "now"], ["set", "green", "now", "please"]) == [
        ("set", "set"),
        ("red", "green"),
        ("now", "now"),
        (None, "please"),
    ]


def test_corpus_and_mean_differ_when_sentences_differ_in_length():
    sentences = [word_errors("a", "b"), word_errors("a b c", "a b c")]
    assert corpus_rate(sentences) == pytest.approx(1 / 4)
    assert mean_rate(sentences) == pytest.approx(1 / 2)


def test_rates_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one reference item"):
        corpus_rate([word_errors("", "a")])
    with pytest.raises(ValueError, match="at least one sentence"):
        mean_rate([])


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Don’t  STOP, now!", "don't stop now"),
        ("'quoted' — dogs'", "quoted dogs"),
        ("  ", ""),
        ("Ça va?", "ça va"),
    ],
)
def test_normalise_text(text, plain):
    assert normalise_text(text) == plain
