import math

import pytest
import torch

from lipsync_cli.core.errors import InconclusiveError
from lipsync_cli.networks.vsr.align import Span, forced_align, word_spans
from lipsync_cli.networks.vsr.units import Units
from tests.ctc_paths import path_probabilities, read


def random_log_probs(frames: int, units: int, seed: int) -> torch.Tensor:
    return (2 * torch.randn(frames, units, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def spans_of(path) -> list[Span]:
    starts = [t for t, u in enumerate(path) if u != 0 and (t == 0 or path[t - 1] != u)]
    ends = [next((t for t in range(s, len(path)) if path[t] != path[s]), len(path)) for s in starts]
    return [Span(s, e) for s, e in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("units", [(1,), (2, 1), (1, 1), (3, 3, 2), (1, 2, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_alignment_is_the_best_of_all_paths(units, seed):
    log_probs = random_log_probs(6, 4, seed)
    fitting = {p: q for p, q in path_probabilities(log_probs).items() if read(p) == units}
    best = max(fitting, key=fitting.get)
    spans, score = forced_align(log_probs, units)
    assert spans == spans_of(best)
    assert score == pytest.approx(math.log(fitting[best]), abs=1e-6)


def test_agrees_with_torchaudio_on_a_long_clip():
    try:
        from torchaudio.functional import forced_align as theirs
    except (ImportError, OSError) as error:  # it cannot be imported beside CPU builds of torch
        pytest.skip(f"torchaudio is not usable here: {error}")
    log_probs = random_log_probs(150, 30, seed=5)
    units = torch.randint(1, 30, (40,), generator=torch.Generator().manual_seed(6)).tolist()
    path, scores = theirs(log_probs[None], torch.tensor([units], dtype=torch.int32))
    spans, score = forced_align(log_probs, units)
    assert spans == spans_of(path[0].tolist())
    assert score == pytest.approx(float(scores.sum()), abs=1e-3)


def test_too_few_frames_are_refused():
    with pytest.raises(InconclusiveError, match="2 frames are too few to time 2 units") as caught:
        forced_align(random_log_probs(2, 4, seed=0), [1, 1])  # needs a blank between
    assert caught.value.exit_code == 4


def test_nothing_to_align_is_all_blank():
    log_probs = random_log_probs(3, 4, seed=0)
    spans, score = forced_align(log_probs, [])
    assert spans == []
    assert score == pytest.approx(float(log_probs[:, 0].sum()))


def test_word_spans_leave_out_the_pause_before_a_word():
    units = Units.characters("abc")
    written = units.encode("ab c")
    spans = [Span(0, 4), Span(4, 5), Span(7, 9), Span(9, 12), Span(13, 14)]
    assert word_spans(units, written, spans) == [Span(4, 9), Span(13, 14)]
