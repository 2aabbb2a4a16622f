import math

import pytest
import torch

from lipsync_cli.networks.vsr.losses import (
    LipReadingBatch,
    hybrid_loss,
    mask_time,
    shift_targets,
    too_short,
)
from tests.ctc_paths import reading_probabilities


@pytest.fixture
def batch():
    return LipReadingBatch(
        inputs=torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2)),
        lengths=torch.tensor([5, 4]),
        targets=torch.tensor([[1, 1, 3], [2, -1, -1]]),
        target_lengths=torch.tensor([3, 1]),
    )


def test_ctc_part_is_the_sum_over_all_paths(tiny_reader, batch):
    reader = tiny_reader()
    expected = []
    for i, units in enumerate([(1, 1, 3), (2,)]):
        frames = int(batch.lengths[i])
        memory, _ = reader.encode(batch.inputs[i : i + 1, :frames])
        expected.append(-math.log(reading_probabilities(reader.ctc(memory)[0].detach())[units]))
    assert float(hybrid_loss(reader, batch)["ctc"]) == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_decoder_part_is_the_smoothed_log_probability_of_units_and_end(tiny_reader, batch):
    reader = tiny_reader()
    memory, real = reader.encode(batch.inputs, batch.lengths)
    total = 0.0
    for i, units in enumerate([(1, 1, 3), (2,)]):
        table = reader.decoder(torch.tensor([[4, *units]]), memory[i : i + 1], real[i : i + 1])
        for row, unit in zip(table[0].log_softmax(-1).tolist(), (*units, 4), strict=True):
            wrong = [value for u, value in enumerate(row) if u != unit]
            total -= 0.9 * row[unit] + 0.1 * sum(wrong) / len(wrong)
    assert float(hybrid_loss(reader, batch)["decoder"]) == pytest.approx(total / 2, rel=1e-4)


def test_whole_is_the_weighted_sum(tiny_reader, batch):
    loss = hybrid_loss(tiny_reader(), batch, ctc_weight=0.3)
    assert loss["loss"].item() == pytest.approx(0.3 * float(loss["ctc"]) + 0.7 * float(loss["decoder"]))
    assert float(loss["too_short"]) == 0


def test_padding_of_inputs_and_targets_changes_nothing(tiny_reader, batch):
    reader = tiny_reader()
    longer = LipReadingBatch(
        torch.cat([batch.inputs, torch.randn(2, 3, 6)], dim=1),
        batch.lengths,
        torch.cat([batch.targets, torch.full((2, 2), -1)], dim=1),
        batch.target_lengths,
    )
    for name, value in hybrid_loss(reader, batch).items():
        torch.testing.assert_close(hybrid_loss(reader, longer)[name], value, atol=1e-4, rtol=1e-4)


def test_clip_too_short_for_its_transcript_is_counted_and_does_no_harm(tiny_reader, batch):
    reader = tiny_reader()
    short = LipReadingBatch(batch.inputs, torch.tensor([2, 4]), batch.targets, batch.target_lengths)
    loss = hybrid_loss(reader, short)
    loss["loss"].backward()
    assert float(loss["too_short"]) == 0.5
    assert all(p.grad is None or p.grad.isfinite().all() for p in reader.parameters())


def test_small_reader_learns_two_clips_by_heart(tiny_reader, batch):
    reader = tiny_reader(dropout=0.0).train()
    optimiser = torch.optim.AdamW(reader.parameters(), lr=1e-2)
    first = hybrid_loss(reader, batch, label_smoothing=0)["loss"].item()
    for _ in range(60):
        optimiser.zero_grad()
        losses = hybrid_loss(reader, batch, label_smoothing=0)
        losses["loss"].backward()
        optimiser.step()
    assert losses["loss"].item() < 0.1 * first
    assert float(losses["accuracy"]) == 1


@pytest.mark.parametrize(("frames", "short"), [(3, True), (4, False)])
def test_repeated_units_need_a_frame_between(batch, frames, short):
    lengths = torch.tensor([frames, 1])
    measured = LipReadingBatch(batch.inputs, lengths, batch.targets, batch.target_lengths)
    assert too_short(measured).tolist() == [short, False]


def test_decoder_is_given_the_start_and_must_answer_the_end():
    previous, following = shift_targets(torch.tensor([[1, 2], [3, -1]]), torch.tensor([2, 1]), end=9)
    assert previous.tolist() == [[9, 1, 2], [9, 3, 9]]
    assert following.tolist() == [[1, 2, 9], [3, 9, -1]]


def test_time_masks_are_short_and_inside_each_clip():
    generator = torch.Generator().manual_seed(0)
    inputs, lengths = torch.ones(800, 60, 2), torch.tensor([60, 25, 26, 3] * 200)
    masked = mask_time(inputs, lengths, generator=generator)
    assert inputs.min() == 1  # the batch itself is left alone
    zero = (masked == 0).all(dim=2)
    assert torch.equal(zero, (masked == 0).any(dim=2))  # whole frames
    counts = zero.sum(1)
    most = torch.tensor([27, 9, 18, 3] * 200)  # 3, 1, 2 and 1 masks of at most 9 frames
    assert (counts <= most).all()
    assert counts[::4].max() > 9
    assert not (zero & (torch.arange(60) >= lengths[:, None])).any()
    assert zero[::4].any(0).all()  # everywhere, over many draws
