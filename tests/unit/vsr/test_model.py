import pytest
import torch

from lipsync_cli.networks.vsr.conformer import shift_to_keys
from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig


def test_distances_are_put_where_their_keys_are():
    frames = 4
    distances = torch.arange(frames - 1, -frames, -1.0).expand(1, 1, frames, -1)
    expected = torch.arange(frames)[:, None] - torch.arange(frames)[None]
    assert torch.equal(shift_to_keys(distances)[0, 0], expected.float())


@torch.no_grad()
def test_tokens_past_the_end_change_nothing(tiny_reader):
    reader = tiny_reader()
    tokens = torch.randn(1, 7, 6)
    alone, _ = reader.encode(tokens)
    padded = torch.cat([tokens, 100 * torch.randn(1, 5, 6)], dim=1)
    together, real = reader.encode(torch.cat([padded, torch.randn(1, 12, 6)]), torch.tensor([7, 12]))
    assert real.sum(1).tolist() == [7, 12]
    torch.testing.assert_close(together[0, :7], alone[0], atol=1e-5, rtol=1e-4)
    previous = torch.tensor([[4, 1, 2]])
    torch.testing.assert_close(
        reader.decoder(previous, together[:1], real[:1]),
        reader.decoder(previous, alone, real[:1, :7]),
        atol=1e-5,
        rtol=1e-4,
    )


@torch.no_grad()
def test_crops_past_the_end_change_nothing(tiny_reader):
    reader = tiny_reader(reads="video", token_width=0, frontend_width=2)
    video = torch.randn(1, 5, 1, 32, 40)
    alone, _ = reader.encode(video)
    padded = torch.cat([video, torch.full((1, 3, 1, 32, 40), 9.0)], dim=1)
    together, _ = reader.encode(padded, torch.tensor([5]))
    torch.testing.assert_close(together[0, :5], alone[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_writing_a_unit_at_a_time_is_as_writing_all_at_once(tiny_reader):
    reader = tiny_reader()
    memory, real = reader.encode(torch.randn(1, 6, 6))
    sentences = torch.tensor([[4, 1, 3, 2], [4, 2, 2, 1]])
    whole = reader.decoder(sentences, memory.expand(2, -1, -1), real.expand(2, -1)).log_softmax(-1)
    state = reader.decoder.start(memory[0])
    state = state.select(torch.tensor([0, 0]))
    for i in range(4):
        log_probs, state = reader.decoder.step(sentences[:, i], state)
        torch.testing.assert_close(log_probs, whole[:, i], atol=1e-5, rtol=1e-4)
        if i == 1:  # hypotheses change places, and back
            crossed = state.select(torch.tensor([1, 0]))
            other, _ = reader.decoder.step(sentences[[1, 0], 2], crossed)
            torch.testing.assert_close(other, whole[[1, 0], 2], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_decoder_does_not_see_what_is_still_to_be_written(tiny_reader):
    reader = tiny_reader()
    memory, real = reader.encode(torch.randn(1, 6, 6))
    first = reader.decoder(torch.tensor([[4, 1, 3]]), memory, real)
    second = reader.decoder(torch.tensor([[4, 1, 2]]), memory, real)
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2], second[:, 2])


def test_every_parameter_learns(tiny_reader):
    reader = tiny_reader(reads="video", token_width=0, frontend_width=2).train()
    log_probs, logits = reader(
        torch.randn(2, 6, 1, 32, 40), torch.tensor([6, 4]), torch.tensor([[4, 1, 2], [4, 3, 3]])
    )
    (log_probs.exp()[..., 1].sum() + logits.square().sum()).backward()
    without = [name for name, p in reader.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias shifts all scores of a row alike, which softmax does not see.
    assert all(name.endswith("linear_k.bias") for name in without), without
    assert len(list(reader.named_parameters())) > 100


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"reads": "sound"}, "reads"), ({"reads": "tokens"}, "token_width"), ({"units": 2}, "units")],
)
def test_senseless_shapes_are_refused(wrong, word):
    with pytest.raises(ValueError, match=word):
        LipReaderConfig(**wrong)


@pytest.mark.parametrize("lengths", [[0, 5], [5, 6]])
def test_impossible_lengths_are_refused(tiny_reader, lengths):
    with pytest.raises(ValueError, match="lengths"):
        tiny_reader().encode(torch.randn(2, 5, 6), torch.tensor(lengths))


def test_default_is_a_quarter_of_a_billion_parameters():
    with torch.device("meta"):
        reader = LipReader(LipReaderConfig())
    assert 245e6 < sum(p.numel() for p in reader.parameters()) < 255e6
