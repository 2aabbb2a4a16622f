import itertools

import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.networks.vsr.grammar import GRID_SLOTS, GRID_WORDS, Grammar
from lipsync_cli.networks.vsr.units import Units


def sentences(grammar: Grammar, longest: int) -> set[str]:
    """Everything the grammar lets be written in at most `longest` units."""
    found, open_ends = set(), [((), grammar.start)]
    while open_ends:
        written, state = open_ends.pop()
        for unit in grammar.allowed(state):
            if unit == grammar.units.end:
                found.add(grammar.units.decode(written))
            elif len(written) < longest:
                open_ends.append(((*written, unit), grammar.advance(state, unit)))
    return found


def accepts(grammar: Grammar, text: str) -> bool:
    state = grammar.start
    for unit in grammar.units.encode(text):
        if unit not in grammar.allowed(state):
            return False
        state = grammar.advance(state, unit)
    return grammar.units.end in grammar.allowed(state)


def test_grid_has_51_words_and_64000_sentences():
    assert len(GRID_WORDS) == 51
    sizes = [len(slot) for slot in GRID_SLOTS]
    assert sizes == [4, 4, 4, 25, 10, 4]
    assert "w" not in GRID_SLOTS[3]


@pytest.mark.parametrize("units", [Units.characters(), Units.words(GRID_WORDS)])
def test_grid_accepts_its_sentences_and_no_others(units):
    grammar = Grammar.grid(units)
    assert accepts(grammar, "bin blue at f two now")
    assert accepts(grammar, "place white with a seven again")
    for wrong in ("bin blue at f two", "blue bin at f two now", "bin blue at f two now now", "bin", ""):
        assert not accepts(grammar, wrong)
    if units.names[1] == "▁":
        assert not accepts(grammar, "bin blue at w two now")
        assert not accepts(grammar, "bins blue at f two now")


@pytest.mark.parametrize(
    "units", [Units.characters("ab"), Units.from_lines(["▁", "a", "b", "▁a", "ab", "▁ab", "b▁"])]
)
def test_slots_are_written_in_every_way_the_units_can(units):
    grammar = Grammar(units, (frozenset({"a", "ab"}), frozenset({"b", "ba"})))
    expected = {f"{x} {y}" for x, y in itertools.product(("a", "ab"), ("b", "ba"))}
    assert sentences(grammar, longest=6) == expected


def test_word_list_repeats_words_one_of_which_begins_another():
    grammar = Grammar.words(Units.characters("ab"), ["a\n", "", "ab"])
    found = sentences(grammar, longest=6)
    expected = {"a", "ab", "a a", "a ab", "ab a", "ab ab", "a a a"}
    assert found == expected


@pytest.mark.parametrize(
    ("lines", "word"), [([], "no words"), (["two words"], "two words"), (["größe"], "größe")]
)
def test_unusable_word_lists_are_refused(lines, word):
    with pytest.raises(InputError, match=word) as caught:
        Grammar.words(Units.characters(), lines)
    assert caught.value.exit_code == 3


def test_advance_refuses_what_is_not_allowed():
    grammar = Grammar.grid(Units.words(GRID_WORDS))
    with pytest.raises(ValueError, match="now"):
        grammar.advance(grammar.start, grammar.units.encode("now")[0])


def test_no_unit_leads_into_a_dead_end():
    units = Units.words(
        GRID_WORDS
    )  # the letter "b" begins "bin", "blue" and "by", and cannot go on as a word
    grammar = Grammar.grid(units)
    names = [units.names[unit] for unit in grammar.allowed(grammar.start)]
    assert sorted(names) == ["▁bin", "▁lay", "▁place", "▁set"]
