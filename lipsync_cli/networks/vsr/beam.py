"""Joint CTC/attention beam search over one clip, all hypotheses at once (Watanabe et al. 2017, §III-C).

The score of a sentence is (1 − λ) log p_decoder + λ log p_CTC + language_weight · log p_language + unit_bonus
a unit, all with the end of the sentence included. The search stops as soon as no unfinished hypothesis can
still reach the n-best. # differs from the published code, which guesses when to stop from recent scores.

Shapes: N hypotheses, C candidate units, V units, T frames, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lipsync_cli.core.errors import InconclusiveError
from lipsync_cli.networks.vsr.ctc import PrefixScorer, PrefixState
from lipsync_cli.networks.vsr.decoder import DecoderState
from lipsync_cli.networks.vsr.grammar import Grammar, State
from lipsync_cli.networks.vsr.model import BLANK, LipReader
from lipsync_cli.networks.vsr.units import Units

LanguageModel = Callable[[Sequence[Sequence[int]]], torch.Tensor]
"""Prefixes, each first the start unit → log probabilities of the next unit (N, V), each 0 or less."""


@dataclass(frozen=True)
class BeamOptions:
    """beam: hypotheses kept.  ctc_weight: λ, in 0…1.  candidates: units that CTC scores after each
    hypothesis, the decoder's most likely (0: all).  best: how many sentences to return."""

    beam: int = 40
    ctc_weight: float = 0.1
    language_weight: float = 0.0
    unit_bonus: float = 0.0
    candidates: int = 60
    best: int = 1

    def __post_init__(self) -> None:
        if self.beam < 1 or self.best < 1 or self.candidates < 0:
            raise ValueError("beam and best must be at least 1, candidates at least 0")
        if not 0 <= self.ctc_weight <= 1:
            raise ValueError(f"ctc_weight must lie in 0…1, not {self.ctc_weight}")


@dataclass(frozen=True)
class Hypothesis:
    """units: as written, without start and end.  score: joint, natural log.  unit_log_probs: one a unit, the
    networks' alone, (1 − λ) decoder + λ CTC, given the units before it."""

    units: tuple[int, ...]
    score: float
    unit_log_probs: tuple[float, ...]


@dataclass(frozen=True)
class _Running:
    """N unfinished hypotheses. The CTC state is None when λ = 0."""

    hypotheses: list[Hypothesis]
    decoder: DecoderState
    ctc: PrefixState | None
    grammar: list[State]


def word_confidences(units: Units, hypothesis: Hypothesis) -> list[float]:
    """How sure the networks are of each word: the geometric mean of its units' probabilities, in 0…1.

    It is not renormalised over what a grammar allows: a low value can mean that something else was said.
    """
    return [
        math.exp(sum(hypothesis.unit_log_probs[i] for i in word) / len(word))
        for word in units.split_words(hypothesis.units)
    ]


@torch.inference_mode()
def beam_search(
    reader: LipReader,
    memory: torch.Tensor,
    options: BeamOptions | None = None,
    grammar: Grammar | None = None,
    language: LanguageModel | None = None,
) -> list[Hypothesis]:
    """The best sentences of one clip, best first; no sentence is longer than the clip has frames.

    memory: (T, W), the clip's real frames from `reader.encode`.
    Raises: InconclusiveError when no sentence (of the grammar) fits into the clip's frames.
    """
    options = options or BeamOptions()
    search = _Search(reader, memory, options, grammar, language)
    running, ended = search.start(), []
    for length in range(len(memory) + 1):
        running, finished = search.step(running, must_end=length == len(memory))
        ended = sorted([*ended, *finished], key=lambda h: -h.score)[: options.best]
        if not running.hypotheses:
            break
        left = max(options.unit_bonus, 0) * (len(memory) - length - 1)
        if len(ended) == options.best and running.hypotheses[0].score + left <= ended[-1].score:
            break
    if not ended:
        raise InconclusiveError(f"No sentence can be read from {len(memory)} frames.")
    return ended


class _Search:
    def __init__(
        self,
        reader: LipReader,
        memory: torch.Tensor,
        options: BeamOptions,
        grammar: Grammar | None,
        language: LanguageModel | None,
    ) -> None:
        self.decoder, self.end, self.memory = reader.decoder, reader.end, memory
        self.options, self.grammar, self.language = options, grammar, language
        self.ctc = PrefixScorer(reader.ctc(memory)) if options.ctc_weight > 0 else None

    def start(self) -> _Running:
        return _Running(
            [Hypothesis((), 0.0, ())],
            self.decoder.start(self.memory),
            self.ctc.start() if self.ctc else None,
            [self.grammar.start] if self.grammar else [],
        )

    def step(self, running: _Running, must_end: bool) -> tuple[_Running, list[Hypothesis]]:
        """One unit more: those that go on, best first, and those that end here."""
        last = [h.units[-1] if h.units else self.end for h in running.hypotheses]
        attention, decoder = self.decoder.step(torch.tensor(last, device=self.memory.device), running.decoder)
        attention = (1 - self.options.ctc_weight) * attention.float()
        ranking = (attention + self._wishes(running, attention)).masked_fill(
            self._forbidden(running, attention, must_end), -torch.inf
        )
        candidates, choices, networks, ctc = self._candidates(running, attention, ranking)
        before = torch.tensor([h.score for h in running.hypotheses], device=choices.device)
        totals = (before[:, None] + choices).flatten()
        top = totals.topk(min(self.options.beam, len(totals)))
        kept = [
            i for i, score in zip(top.indices.tolist(), top.values.tolist(), strict=True) if score > -math.inf
        ]

        going, rows, prefixes, states, finished = [], [], [], [], []
        width = candidates.shape[1] + 1
        for index in kept:
            row, column = divmod(index, width)
            old, score = running.hypotheses[row], float(totals[index])
            if column == width - 1:
                finished.append(Hypothesis(old.units, score, old.unit_log_probs))
                continue
            unit, log_prob = int(candidates[row, column]), float(networks[row, column])
            going.append(Hypothesis((*old.units, unit), score, (*old.unit_log_probs, log_prob)))
            rows.append(row)
            prefixes.append(row * (width - 1) + column)
            if self.grammar:
                states.append(self.grammar.advance(running.grammar[row], unit))
        device = choices.device
        decoder = decoder.select(torch.tensor(rows, dtype=torch.long, device=device))
        if ctc is not None:
            ctc = ctc.select(torch.tensor(prefixes, dtype=torch.long, device=device))
        return _Running(going, decoder, ctc, states), finished

    def _wishes(self, running: _Running, attention: torch.Tensor) -> torch.Tensor:
        """What is added to the networks' scores of each next unit: (N, V)."""
        wishes = torch.full_like(attention, self.options.unit_bonus)
        wishes[:, self.end] = 0
        if self.language and self.options.language_weight:
            prefixes = [(self.end, *h.units) for h in running.hypotheses]
            wishes += self.options.language_weight * self.language(prefixes).to(wishes)
        return wishes

    def _forbidden(self, running: _Running, attention: torch.Tensor, must_end: bool) -> torch.Tensor:
        """Which units may not come next: (N, V) bool."""
        forbidden = torch.zeros_like(attention, dtype=torch.bool)
        if self.grammar:
            forbidden[:] = True
            for row, state in enumerate(running.grammar):
                forbidden[row, list(self.grammar.allowed(state))] = False
        if must_end:
            forbidden[:, : self.end] = True
        forbidden[:, BLANK] = True
        return forbidden

    def _candidates(
        self, running: _Running, attention: torch.Tensor, ranking: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, PrefixState | None]:
        """Likely next units (N, C); their scores and last the end's (N, C + 1), joint and of the networks
        alone; and the CTC state of each hypothesis followed by each candidate."""
        count = self.options.candidates or self.end - 1
        # The end is always a choice, and neither it nor blank is a candidate for CTC to extend with.
        ranked = ranking[:, 1 : self.end].topk(min(count, self.end - 1))
        candidates = ranked.indices + 1
        choices = torch.cat([ranked.values, ranking[:, self.end :]], dim=1)
        networks = torch.cat([attention.gather(1, candidates), attention[:, self.end :]], dim=1)
        if self.ctc is None or running.ctc is None:
            return candidates, choices, networks, None
        extended = self.ctc.extend(running.ctc, candidates)
        scores = torch.cat([extended.score.view_as(candidates), self.ctc.ended(running.ctc)[:, None]], dim=1)
        gained = self.options.ctc_weight * (scores - running.ctc.score[:, None])
        return candidates, choices + gained, networks + gained, extended
