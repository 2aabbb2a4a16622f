"""FlashLips on board: the small editor, fitted to the face at hand, driven by speech or by another face."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from lipsync_cli.core.device import resolve_device
from lipsync_cli.core.errors import InputError, UsageError, WeightsError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.dubbing.engine import Crops, Drive, EngineSpec, FaceDrive, SoundDrive, Tell
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.hub.checksums import read_sums
from lipsync_cli.hub.model_folder import WEIGHTS_NAME, load_model_folder, read_weights
from lipsync_cli.networks.blocks.lpips import LPIPS, load_lpips
from lipsync_cli.networks.flashlips.mesh_lips import rest_of
from lipsync_cli.networks.flashlips.sample import hear, sample_lips
from lipsync_cli.networks.flashlips.tiny import (
    HOLE_FEATHER,
    NETWORK,
    TinyFlashLips,
    align_windows,
    load_tiny,
)
from lipsync_cli.networks.flashlips.warp_adapt import AdaptConfig, Face, adapt, nearest
from lipsync_cli.networks.flashlips.warp_editor import Drawn, References, WarpEditor, shrink
from lipsync_cli.networks.flashlips.warp_losses import WarpLossConfig, mouth_losses
from lipsync_cli.tasks.engines.lips_track import LipsTrack, closed_in_silence, retargeted

SIDE_PX = 192
BATCH = 8  # frames that the network is shown at once
REFERENCE_FRAMES = 64
# What is heard is drawn so often and averaged: on s2 and s3 of GRID the opening then follows the seen one at 0.77 instead
# of 0.71 (correlation), but the mouth moves 0.6 (its shape) to 0.94 times (its opening) as much.
DRAWS, GAIN = 4, 1.1
LEAST_FIT_S = 1.0  # of frames; in fewer there is nothing that is apart
KEPT = 16  # adaptations, of 7 MB each


@dataclass(frozen=True)
class Adaptation:
    """steps: 0 for none.  cache: folder of finished adaptations, None to keep none."""

    steps: int
    cache: Path | None


class FlashLipsEngine:
    """`DubEngine` of the small FlashLips."""

    def __init__(
        self, network: TinyFlashLips, model: str, device: torch.device, adaptation: Adaptation
    ) -> None:
        """model: name and hash of the weights, for the record."""
        # Fitting is a fifth faster with channels last.
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
        self._device, self._adaptation = device, adaptation
        self._judge: LPIPS | None = None
        self._editor: WarpEditor | None = None
        self._references: References | None = None
        self._track: LipsTrack | None = None
        self.spec = EngineSpec(
            name="flashlips-tiny",
            model=model,
            side_px=SIDE_PX,
            drives=frozenset({"audio", "video"} if network.audio2lips else {"video"}),
            window_frames=32,
            overlap_frames=0,
            any_rate=True,
            reference_frames=REFERENCE_FRAMES,
        )

    def align(self, landmarks: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        return align_windows(landmarks, times_s, SIDE_PX)

    def prepare(self, references: Crops, drive: Drive, seed: int, tell: Tell) -> None:
        face = self._face(references)
        self._track = self._drive(face, references, drive, seed)
        self._editor = self._fitted(face, seed, tell)
        with torch.inference_mode():
            self._references = self._editor.look(face.images[None], face.lips[None])

    def generate(self, crops: Crops) -> np.ndarray:
        assert self._track is not None
        lips = torch.from_numpy(self._track.at(crops.times_s)).to(self._device)
        parts = [slice(k, k + BATCH) for k in range(0, len(lips), BATCH)]
        return np.concatenate([self._draw(crops.images[p], crops.landmarks[p], lips[p]) for p in parts])

    @torch.inference_mode()
    def _draw(self, images: np.ndarray, landmarks: np.ndarray, lips: Tensor) -> np.ndarray:
        assert self._editor is not None and self._references is not None
        chosen = nearest(lips, self._references.lips[0], None, 3)
        holes = self._holes(landmarks)
        drawn = self._editor(self._pictures(images), holes, self._references.pick(chosen), lips)
        pixels = (drawn.picture.clamp(-1, 1) + 1) * 127.5
        return pixels.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def release(self) -> None:
        self._editor = self._references = self._track = None

    def _face(self, references: Crops) -> Face:
        images = self._pictures(references.images)
        with torch.inference_mode():
            lips = self._network.read_lips(images, references.landmarks)
        return Face(images, self._holes(references.landmarks), lips.clone(), references.times_s)

    def _pictures(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2)
        return pixels.float() / 127.5 - 1

    def _holes(self, landmarks: np.ndarray) -> Tensor:
        return torch.from_numpy(mouth_mask(landmarks, SIDE_PX, HOLE_FEATHER * SIDE_PX))[:, None].to(
            self._device
        )

    def _drive(self, face: Face, references: Crops, drive: Drive, seed: int) -> LipsTrack:
        own = face.lips.cpu().numpy()
        rest = rest_of(own, references.landmarks)
        if isinstance(drive, FaceDrive):
            if not len(drive.crops.images):
                raise InputError("no face is seen in what is to drive the mouth.", "give a video with a face")
            crops = drive.crops
            with torch.inference_mode():
                parts = [
                    self._pictures(crops.images[k : k + BATCH]) for k in range(0, len(crops.images), BATCH)
                ]
                lips = self._network.read_lips(torch.cat(parts), crops.landmarks).cpu().numpy()
            return LipsTrack(crops.times_s, retargeted(lips, rest_of(lips, crops.landmarks), rest))
        return self._hear(own, rest, drive, seed)

    def _hear(self, own: np.ndarray, rest: np.ndarray, drive: SoundDrive, seed: int) -> LipsTrack:
        model = self._network.audio2lips
        if model is None:
            raise WeightsError(f"{self.spec.model}: the weights cannot hear.", "use --driver-video")
        count = len(drive.speech)
        if not drive.speech.any():
            raise InputError("no speech is heard in what is to drive the mouth.", "give a file with speech")
        samples = np.zeros(640 * count, np.float32)
        samples[: len(drive.samples)] = drive.samples[: len(samples)]
        trained_rest = self._network.rest.cpu().numpy()
        spread = np.linspace(0, len(own) - 1, model.config.references).round().astype(int)
        known = torch.from_numpy(own[spread] - rest + trained_rest).to(self._device)
        heard = hear(model, torch.from_numpy(samples).to(self._device))
        said = [sample_lips(model, heard, known, seed=DRAWS * seed + n).cpu().numpy() for n in range(DRAWS)]
        lips = trained_rest + GAIN * (np.mean(said, 0) - trained_rest)
        lips = closed_in_silence(retargeted(lips, trained_rest, rest), rest, drive.speech)
        return LipsTrack(np.arange(count) / 25, lips)

    def _fitted(self, face: Face, seed: int, tell: Tell) -> WarpEditor:
        """The editor, trained on the face for a while; a face that was met before is not trained on again."""
        editor = copy.deepcopy(self._network.editor)
        steps = self._adaptation.steps
        if not steps or np.ptp(face.times_s) < LEAST_FIT_S:
            return editor
        kept = self._kept(face, seed)
        state = None if kept is None else _kept_state(kept)
        if state is None:
            state = self._train(editor, face, seed, tell)
            if kept is not None:
                _keep(state, kept)
        # Through half precision also when it was not kept: the same frames either way.
        editor.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        return editor.eval()

    def _train(self, editor: WarpEditor, face: Face, seed: int, tell: Tell) -> dict[str, Tensor]:
        judge = self._judge = self._judge or load_lpips(load_model_folder("lpips-alex")).to(self._device)

        def loss(truth: Tensor, holes: Tensor, drawn: Drawn) -> Tensor:
            return mouth_losses(truth, holes, drawn, WarpLossConfig(), judge)["loss"]

        def told(done: int, of: int) -> None:
            tell("fitting to the face", done, of)

        config = replace(AdaptConfig(), steps=self._adaptation.steps)
        side = editor.config.side_px  # what is learnt is where things belong, which is seen as well from here
        face = replace(face, images=shrink(face.images, side), holes=shrink(face.holes, side))
        adapt(editor.train(), face, loss, config, seed, told)
        return {name: tensor.half() for name, tensor in editor.state_dict().items()}

    def _kept(self, face: Face, seed: int) -> Path | None:
        if self._adaptation.cache is None:
            return None
        told = hashlib.sha256(f"{self.spec.model} {self._adaptation.steps} {seed} {AdaptConfig()}".encode())
        for part in (face.images, face.holes, face.lips):
            told.update(part.cpu().numpy().tobytes())
        return self._adaptation.cache / f"{told.hexdigest()[:32]}.safetensors"


def _kept_state(path: Path) -> dict[str, Tensor] | None:
    """A finished adaptation; None when there is none, or a damaged one, which is then made again."""
    try:
        return read_weights(path) if path.is_file() else None
    except WeightsError:
        return None


def _keep(state: dict[str, Tensor], path: Path) -> None:
    """Store an adaptation; the oldest beyond KEPT are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    newest = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in newest[KEPT:]:
        old.unlink(missing_ok=True)


def load_flashlips_engine(model: str, device: str, options: Mapping[str, str]) -> FlashLipsEngine:
    """model: catalogue name or folder.  options: adapt: "auto", "off" or a number of steps.

    Raises: UsageError for another `adapt`; WeightsError when the weights are missing or damaged.
    """
    asked = options.get("adapt", "auto")
    if asked not in ("auto", "off") and not asked.isdecimal():
        raise UsageError(f"--adapt '{asked}' is not auto, off or a number of steps.", "--adapt 300")
    steps = {"auto": AdaptConfig.steps, "off": 0}.get(asked)
    folder = load_model_folder(model, network=NETWORK)
    digest = read_sums(folder.path)[WEIGHTS_NAME]
    adaptation = Adaptation(int(asked) if steps is None else steps, adaptation_folder())
    return FlashLipsEngine(load_tiny(folder), f"{folder.name}@{digest}", resolve_device(device), adaptation)


def adaptation_folder() -> Path:
    """Where finished adaptations are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lipsync" / "adapted"
