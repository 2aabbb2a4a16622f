"""What goes in and what should come out: masks, pseudo-pairs, measures."""

import numpy as np
import pytest
import torch

from lipsync_cli.core.progress import SILENT
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.networks.flashlips.augment import AugmentConfig
from lipsync_cli.networks.flashlips.autoencoder import PixelShuffleCodec
from lipsync_cli.networks.flashlips.frames import FrameClips, FrameData, face_of, lips_mask, mirrored
from lipsync_cli.networks.flashlips.lips import OUTER_LIPS, ExpressionConfig, mirrored_points
from lipsync_cli.networks.flashlips.losses import EditorLossConfig
from lipsync_cli.networks.flashlips.objective import (
    FeatureSources,
    Judge,
    SelfRefinement,
    frame_example,
    psnr_db,
)
from lipsync_cli.networks.flashlips.objective_lips import ExpressionObjective, ExpressionRecipe
from lipsync_cli.networks.flashlips.resnet import ResNetConfig
from tests.speaking_faces import mesh, write_faces


class Says(torch.nn.Module):
    """A stand-in for a lips encoder: the mean of a face, as two numbers."""

    def forward(self, faces):
        return faces.mean((1, 2, 3))[:, None].expand(-1, 2)


class Draws(torch.nn.Module):
    """A stand-in for R_φ: what it is shown, and the first lips number everywhere."""

    def forward(self, z_masked, z_reference, lips):
        return z_masked + lips[:, :1, None, None]


def refinement() -> SelfRefinement:
    judge = Judge(PixelShuffleCodec(2), EditorLossConfig(), FeatureSources("", ""))
    return SelfRefinement(Draws(), Draws(), Says(), judge)


def batch(back: list[float]):
    n = len(back)
    mouth = torch.zeros(n, 1, 4, 4)
    mouth[..., 2:, :] = 1
    return {
        "source": torch.full((n, 3, 4, 4), 0.5), "reference": torch.zeros(n, 3, 4, 4), "mouth": mouth,
        "lips": mouth, "view": torch.full((n, 3, 4, 4), 0.1), "donor": torch.full((n, 3, 4, 4), 0.25),
        "back": torch.tensor(back),
    }  # fmt: skip


def test_pairs_go_both_ways():
    """S̃ = R(S; z): here the masked frame and the donor's number, 0.25; forth by the donor's lips, back by one's own."""
    z_shown, wanted, z_wanted, lips = refinement().pairs(batch([0.0, 1.0]))
    real, codec = torch.full((3, 4, 4), 0.5), PixelShuffleCodec(2)
    changed = real.clone()
    changed[:, 2:] = 0
    changed = changed + 0.25
    forth, back = codec.decode(z_shown)
    torch.testing.assert_close(forth, real)
    torch.testing.assert_close(back, changed)
    torch.testing.assert_close(wanted, torch.stack([changed, real]))
    torch.testing.assert_close(codec.decode(z_wanted), wanted)
    torch.testing.assert_close(lips, torch.tensor([[0.25, 0.25], [0.1, 0.1]]))


def test_only_the_new_editor_learns():
    class Learns(Draws):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, z_masked, z_reference, lips):
            return z_masked + self.weight * lips[:, :1, None, None]

    judge = Judge(PixelShuffleCodec(2), EditorLossConfig(), FeatureSources("", ""))
    module = SelfRefinement(Learns(), Learns(), Says(), judge)
    module(batch([0.0, 1.0]))["loss"].backward()
    assert module.editor.weight.grad is not None
    assert not module.reconstruction.weight.requires_grad


def test_a_judge_loads_no_network_of_weight_zero():
    config = EditorLossConfig(features=0.0, face_features=0.0)
    judge = Judge(PixelShuffleCodec(2), config, FeatureSources("no-such-network", "nor-this"))
    assert judge.image is None and judge.face is None


def test_psnr_within_a_mask():
    error = torch.zeros(1, 3, 2, 2)
    error[..., 0, 0] = 0.2  # of a range of 2: 20 dB
    inside = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert psnr_db(error, inside).item() == pytest.approx(20)
    assert psnr_db(error, torch.ones(1, 1, 2, 2)).item() == pytest.approx(20 + 10 * np.log10(4))


def test_the_lips_mask_is_the_area_within_the_lips_edge():
    points = mesh(np.array([0.8]), CropGeometry(200))[0]
    ring = points[list(OUTER_LIPS)]
    x, y = ring.T
    area = 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    mask = lips_mask(points, 200)
    assert mask.sum() == pytest.approx(area, rel=0.08)
    middle = ring.mean(0).round().astype(int)
    assert mask[middle[1], middle[0]] == 1 and mask[:100].sum() == 0


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return FrameClips(FrameData(str(write_faces(tmp_path_factory.mktemp("faces")))), 32)


def test_a_frame_is_the_face_square_with_its_masks(clips):
    clip = clips.train.load(clips.train.clips[0])
    frame = clips.frame(clip, 3)
    assert clip.frames.shape[1] == 36
    np.testing.assert_array_equal(frame.face, clip.frames[3, 2:34, 2:34] / np.float32(255))
    torch.testing.assert_close(
        face_of(clip.frames[3:4], 32)[0].permute(1, 2, 0), torch.from_numpy(frame.face) * 2 - 1
    )
    assert (
        frame.mouth[:16].sum() == 0 and frame.mouth[20, 16] == 1 and frame.mouth.sum() > frame.lips.sum() > 0
    )
    np.testing.assert_array_equal(frame.lips, lips_mask(clip.landmarks[3] - 2, 32))
    other = mirrored(frame)
    for name in ("face", "mouth", "lips"):
        np.testing.assert_array_equal(getattr(other, name)[:, 4], getattr(frame, name)[:, 27])


def test_validation_is_of_frames_as_they_are(clips):
    from lipsync_cli.networks.flashlips.objective import _validation

    data = FrameData("", validate_every=8)
    batches = list(_validation(clips, data, torch.device("cpu"), SILENT))
    assert len(batches) == 5
    clip = clips.validate.load(clips.validate.clips[0])
    assert batches[0]["source"].shape == (2, 3, 32, 32)  # frames 7 and 15 of 20
    torch.testing.assert_close(batches[0]["source"], face_of(clip.frames[[7, 15]], 32))
    torch.testing.assert_close(batches[0]["reference"][1:], face_of(clip.frames[:1], 32))
    assert torch.equal(batches[0]["view"], batches[0]["source"])


def test_the_margin_of_crops_is_cut_off_or_refused():
    from lipsync_cli.core.errors import UsageError
    from lipsync_cli.networks.flashlips.frames import margin_of

    assert margin_of(np.zeros((1, 144, 144, 3)), 128) == 8
    with pytest.raises(UsageError, match="144 px wide where 145 px") as caught:
        margin_of(np.zeros((1, 144, 144, 3)), 145)
    assert caught.value.exit_code == 2


def test_a_mirrored_face_has_mirrored_points(clips, tmp_path):
    folder = str(write_faces(tmp_path))

    def example(flip):
        data = FrameData(folder, augment=AugmentConfig(flip=flip, colour=0.0))
        return ExpressionObjective(ExpressionRecipe("", data, 32)).example(3)

    plain, other = example(0.0), example(1.0)
    torch.testing.assert_close(other["face"], plain["face"].flip(2))
    np.testing.assert_allclose(other["points"], mirrored_points(plain["points"].numpy()))
    assert (other["points"] - plain["points"]).abs().max() > 1e-3


def test_source_and_reference_are_of_one_colour_and_the_lips_encoders_view_of_another(clips):
    def example(brightness):
        jitter = AugmentConfig(flip=0, colour=1, brightness=brightness, contrast=0, saturation=0, hue=0)
        rng = np.random.default_rng(4)
        clip = clips.train.load(clips.train.clips[0])
        return frame_example(clips, clip, FrameData("", augment=jitter), rng)

    plain, lit = example(0.0), example(0.2)
    torch.testing.assert_close(plain["view"], plain["source"], atol=1e-5, rtol=0)
    assert (plain["reference"] - plain["source"]).abs().max() > 0.1  # another frame of the clip
    factors = {
        name: float(((lit[name] + 1) / (plain[name] + 1)).median())
        for name in ("source", "reference", "view")
    }
    assert factors["source"] == pytest.approx(factors["reference"], abs=1e-3)
    assert abs(factors["source"] - 1) > 0.01 and abs(factors["source"] - factors["view"]) > 0.01


@torch.no_grad()
def test_an_expression_encoder_is_told_from_one_that_knows_the_person_and_no_movement(clips, tmp_path):
    """One that says the same of every frame is wrong by it, and moving as wrong as one who says nothing moves."""
    folder = str(write_faces(tmp_path))
    objective = ExpressionObjective(
        ExpressionRecipe(
            "", FrameData(folder, validate_every=1), 32, ExpressionConfig(ResNetConfig(10, 8), 32, 4)
        )
    )
    module = objective.build()
    torch.nn.init.zeros_(module.network.landmarks.weight)
    module.network.landmarks.bias.data = torch.tensor([3.0, 4.0]).repeat(53)
    metrics = objective.validate(module, torch.device("cpu"), SILENT)
    assert metrics["error"] == pytest.approx(5, abs=0.05)
    assert metrics["error_moving"] == pytest.approx(metrics["error_of_still"], rel=1e-4)
    assert 0.005 < metrics["error_of_still"] < 0.2
