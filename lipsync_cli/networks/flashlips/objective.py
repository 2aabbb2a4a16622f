"""Training the editor: masked reconstruction (§3.1.1), then mask removal by self-refinement (§3.1.2, §A.2).

Shapes: B examples, S side of the face square, M lips numbers. Pictures (B, 3, S, S), −1…1; masks (B, 1, S, S), 0…1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import ClipData
from lipsync_cli.networks.flashlips.autoencoder import PixelShuffleCodec, SdxlVae
from lipsync_cli.networks.flashlips.editor import EditorConfig, LatentEditor
from lipsync_cli.networks.flashlips.features import load_features
from lipsync_cli.networks.flashlips.frames import Frame, FrameClips, FrameData, jittered, mirrored, picture
from lipsync_cli.networks.flashlips.lips import LipsConfig, LipsEncoder
from lipsync_cli.networks.flashlips.losses import Edited, EditorLossConfig, editor_losses
from lipsync_cli.networks.flashlips.model import (
    AutoencoderConfig,
    FlashLips,
    load_autoencoder,
    without_mouth,
)
from lipsync_cli.networks.flashlips.weights import load_flashlips, save_flashlips
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch


@dataclass(frozen=True)
class FeatureSources:
    """Weights of φ and ψ (eq. 7, 8): a catalogue name or a file; without them, "", their losses are left out."""

    image: str = "vgg19"
    face: str = ""


@dataclass(frozen=True)
class EditorRecipe:
    """start: the model folder that holds the expression encoder; it is written out again with lips encoder and editor."""

    objective: str
    data: FrameData
    start: str
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    model: EditorConfig = field(default_factory=EditorConfig)
    lips: LipsConfig = field(default_factory=LipsConfig)
    loss: EditorLossConfig = field(default_factory=EditorLossConfig)
    features: FeatureSources = field(default_factory=FeatureSources)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class RefineRecipe:
    """start: the model folder of the reconstruction editor; it is written out again with LipsChange in its place.

    to_synthetic: how often the real frame is what is edited, and the synthetic one what should come out (§A.2).
    """

    objective: str
    data: FrameData
    start: str
    to_synthetic: float = 2 / 3
    loss: EditorLossConfig = field(default_factory=EditorLossConfig)
    features: FeatureSources = field(default_factory=FeatureSources)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


class Judge(nn.Module):
    """The frozen networks of the losses, and the losses: `loss` and its terms of latents that should be others."""

    def __init__(self, autoencoder: PixelShuffleCodec | SdxlVae, config, features: FeatureSources) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config
        self.image = load_features(features.image) if config.features else None
        self.face = load_features(features.face) if config.face_features else None

    def forward(
        self, z: Tensor, z_true: Tensor, x_true: Tensor, mouth: Tensor, lips: Tensor
    ) -> dict[str, Tensor]:
        edited = Edited(z, z_true, self.autoencoder.decode(z), x_true, mouth, lips)
        return editor_losses(edited, self.config, self.image, self.face)


class Reconstruction(nn.Module):
    """A batch of `EditorObjective.example`s → eq. 9; the lips encoder's head learns along (§4.2)."""

    def __init__(self, editor: LatentEditor, lips: LipsEncoder, judge: Judge) -> None:
        super().__init__()
        self.editor, self.lips, self.judge = editor, lips, judge

    def edit(self, batch: Batch) -> Tensor:
        """ẑ_src."""
        encode = self.judge.autoencoder.encode
        z_masked = encode(without_mouth(batch["source"], batch["mouth"]))
        return self.editor(z_masked, encode(batch["reference"]), self.lips(batch["view"]))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        source = batch["source"]
        z_src = self.judge.autoencoder.encode(source)
        return self.judge(self.edit(batch), z_src, source, batch["mouth"], batch["lips"])


class SelfRefinement(nn.Module):
    """A batch of `RefineObjective.example`s → eq. 9 over pseudo-pairs: S with lips changed by R_φ, and back."""

    def __init__(
        self, editor: LatentEditor, reconstruction: LatentEditor, lips: LipsEncoder, judge: Judge
    ) -> None:
        """editor: L_θ, to be trained.  reconstruction: R_φ."""
        super().__init__()
        self.editor, self.judge = editor, judge
        self.reconstruction = reconstruction.requires_grad_(False)
        self.lips = lips.requires_grad_(False)  # stage 2 and the distilled encoder go by its numbers

    @torch.no_grad()
    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What goes in, what should come out, of which latent, and the lips numbers that lead there (§A.2)."""
        source, back = batch["source"], batch["back"] > 0.5
        autoencoder = self.judge.autoencoder
        z_masked = autoencoder.encode(without_mouth(source, batch["mouth"]))
        borrowed = self.lips(batch["donor"])
        z_changed = self.reconstruction(z_masked, autoencoder.encode(batch["reference"]), borrowed)
        changed, z_source = autoencoder.decode(z_changed).clamp(-1, 1), autoencoder.encode(source)
        own = self.lips(batch["view"])
        turn = back[:, None, None, None]
        shown, wanted = torch.where(turn, changed, source), torch.where(turn, source, changed)
        z_wanted = torch.where(turn, z_source, autoencoder.encode(changed))
        return autoencoder.encode(shown), wanted, z_wanted, torch.where(back[:, None], own, borrowed)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z_shown, wanted, z_wanted, lips = self.pairs(batch)
        z = self.editor(z_shown, self.judge.autoencoder.encode(batch["reference"]), lips)
        return self.judge(z, z_wanted, wanted, batch["mouth"], batch["lips"])


class EditorObjective:
    """`training.Objective` for the reconstruction editor and the lips encoder."""

    def __init__(self, recipe: EditorRecipe) -> None:
        self._start = load_flashlips(recipe.start)
        expression = self._start.expression
        if expression is None:
            raise UsageError(
                f"{recipe.start}: holds no expression encoder.", "train flashlips_expression first"
            )
        # The lips encoder is built around the trained expression encoder, whatever the recipe says of its size.
        self._lips_config = replace(recipe.lips, expression=expression.config)
        if recipe.model.lips_numbers != self._lips_config.numbers:
            wanted = self._lips_config.numbers
            raise UsageError(
                f"the lips encoder gives {wanted} numbers where the editor takes {recipe.model.lips_numbers}.",
                f"--set model.lips_numbers={wanted}",
            )
        self.recipe = recipe
        self._clips = FrameClips(recipe.data, self._start.config.image_px)

    def build(self) -> Reconstruction:
        """Raises: WeightsError when a frozen network is not on this machine."""
        recipe = self.recipe
        lips = LipsEncoder(self._lips_config, copy.deepcopy(self._start.expression))
        judge = Judge(load_autoencoder(recipe.autoencoder), recipe.loss, recipe.features)
        return Reconstruction(LatentEditor(recipe.model), lips, judge)

    def example(self, index: int) -> Batch:
        """One frame, another of its clip, and masks.

        source, reference: (3, S, S), in the same colours.  view: the source as the lips encoder sees it, in others.
        mouth, lips: (1, S, S).
        """
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        return frame_example(self._clips, self._clips.draw(rng), self.recipe.data, rng)

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """Of validation clips, with their first frame as reference: psnr_db in the mouth's mask; `loss` and its terms."""
        assert isinstance(module, Reconstruction)
        return reconstruction_metrics(module, self._clips, self.recipe.data, device, progress)

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, Reconstruction)
        config = replace(self._start.config, autoencoder=self.recipe.autoencoder, masked=True)
        model = FlashLips(config, {"lips": module.lips, "editor": module.editor})
        save_flashlips(model, folder, self.recipe.licence, {"validation": metrics})


class RefineObjective:
    """`training.Objective` for LipsChange."""

    def __init__(self, recipe: RefineRecipe) -> None:
        self._start = load_flashlips(recipe.start)
        if self._start.editor is None or self._start.lips is None or not self._start.config.masked:
            raise UsageError(
                f"{recipe.start}: holds no reconstruction editor.", "train flashlips_editor first"
            )
        self.recipe = recipe
        self._clips = FrameClips(recipe.data, self._start.config.image_px)

    def build(self) -> SelfRefinement:
        """Raises: WeightsError when a frozen network is not on this machine."""
        recipe, start = self.recipe, self._start
        assert start.editor is not None and start.lips is not None
        judge = Judge(load_autoencoder(start.config.autoencoder), recipe.loss, recipe.features)
        editor = copy.deepcopy(start.editor).requires_grad_(True)
        return SelfRefinement(editor, start.editor, start.lips, judge)

    def example(self, index: int) -> Batch:
        """As `EditorObjective.example`; donor: (3, S, S), any face whose lips numbers are borrowed; back: (), 1 where the
        real frame is to be had back from the synthetic one.

        lips: the donor's as well as the face's own, for in the changed frame they may lie anywhere between.
        """
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        example = frame_example(self._clips, self._clips.draw(rng), self.recipe.data, rng)
        other = frame_example(self._clips, self._clips.draw(rng), self.recipe.data, rng)
        back = float(rng.random() >= self.recipe.to_synthetic)
        if not back:
            example["lips"] = torch.maximum(example["lips"], other["lips"])
        return example | {"donor": other["view"], "back": torch.tensor(back)}

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """Of validation clips: kept_db, the PSNR outside the mouth's mask when it is asked for the lips that are there;
        psnr_db within it.
        """
        assert isinstance(module, SelfRefinement)
        kept, same = [], []
        for batch in _validation(self._clips, self.recipe.data, device, progress):
            encode = module.judge.autoencoder.encode
            z = module.editor(encode(batch["source"]), encode(batch["reference"]), module.lips(batch["view"]))
            error = module.judge.autoencoder.decode(z).clamp(-1, 1) - batch["source"]
            kept.append(psnr_db(error, 1 - batch["mouth"]))
            same.append(psnr_db(error, batch["mouth"]))
        return {"kept_db": float(torch.cat(kept).mean()), "psnr_db": float(torch.cat(same).mean())}

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, SelfRefinement)
        start = self._start
        model = FlashLips(replace(start.config, masked=False), dict(start.named_children()))
        model = model.with_networks(editor=module.editor)
        save_flashlips(model, folder, self.recipe.licence, {"validation": metrics})


def frame_example(clips: FrameClips, clip: ClipData, data: FrameData, rng: np.random.Generator) -> Batch:
    """A frame of a clip with a reference, all random about them drawn: see `EditorObjective.example`."""
    number = int(rng.integers(len(clip.frames)))
    away = int(rng.integers(1, len(clip.frames)))
    source = clips.frame(clip, number)
    reference = clips.frame(clip, (number + away) % len(clip.frames))
    if rng.random() < data.augment.flip:
        source, reference = mirrored(source), mirrored(reference)
    faces = jittered([source.face, reference.face], data.augment, rng)
    # In colours of its own the lips encoder cannot tell the editor what the mouth looks like, only what it does.
    view = jittered([source.face], data.augment, rng)[0]
    return as_example(replace(source, face=faces[0]), faces[1], view)


def as_example(source: Frame, reference: np.ndarray, view: np.ndarray) -> Batch:
    return {
        "source": picture(source.face),
        "reference": picture(reference),
        "view": picture(view),
        "mouth": torch.from_numpy(source.mouth)[None],
        "lips": torch.from_numpy(source.lips)[None],
    }


def reconstruction_metrics(
    module: Reconstruction, clips: FrameClips, data: FrameData, device: torch.device, progress: Progress
) -> dict[str, float]:
    """See `EditorObjective.validate`."""
    rows, found = [], []
    for batch in _validation(clips, data, device, progress):
        rows.append({name: float(value) for name, value in module(batch).items()})
        x = module.judge.autoencoder.decode(module.edit(batch)).clamp(-1, 1)
        found.append(psnr_db(x - batch["source"], batch["mouth"]))
    losses = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {"psnr_db": float(torch.cat(found).mean())} | losses


def psnr_db(error: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture where the mask is not 0.  (N, 3, S, S) of −1…1 pictures → (N,)."""
    inside = (mask > 0).float()
    square = (error.square() * inside).sum((1, 2, 3)) / (inside.sum((1, 2, 3)) * error.shape[1]).clamp_min(1)
    return 10 * torch.log10(4 / square.clamp_min(1e-10))


def _validation(clips: FrameClips, data: FrameData, device: torch.device, progress: Progress):
    """A batch for each validation clip, nothing random about it."""
    store = clips.validate
    with progress.stage("validate", len(store.clips), "clips") as stage:
        for clip in map(store.load, store.clips):
            first = clips.frame(clip, 0).face
            numbers = range(data.validate_every - 1, len(clip.frames), data.validate_every)
            frames = [clips.frame(clip, number) for number in numbers]
            examples = [as_example(frame, first, frame.face) for frame in frames]
            yield {name: torch.stack([e[name] for e in examples]).to(device) for name in examples[0]}
            stage.advance()
