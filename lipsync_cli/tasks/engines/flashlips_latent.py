"""FlashLips as published, trained by our recipes: one pass of the latent editor for every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lipsync_cli.core.device import resolve_device
from lipsync_cli.core.errors import InputError, WeightsError
from lipsync_cli.dubbing.engine import SAMPLE_RATE_HZ, Crops, Drive, EngineSpec, FaceDrive, SoundDrive, Tell
from lipsync_cli.faces.align import CropGeometry, fit_similarity, smooth_matrices
from lipsync_cli.faces.crops import mouth_open
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.hub.checksums import read_sums
from lipsync_cli.hub.model_folder import WEIGHTS_NAME, load_model_folder
from lipsync_cli.networks.flashlips.audio2lips import head_pose
from lipsync_cli.networks.flashlips.autoencoder import PixelShuffleCodec, SdxlVae
from lipsync_cli.networks.flashlips.mesh_lips import rest_of
from lipsync_cli.networks.flashlips.model import FlashLips, load_autoencoder
from lipsync_cli.networks.flashlips.sample import hear, sample_lips
from lipsync_cli.networks.flashlips.weights import NETWORK, load_flashlips
from lipsync_cli.tasks.engines.lips_track import LipsTrack, closed_in_silence, retargeted

BATCH = 8  # frames that the network is shown at once
SMOOTHING_S = 0.08  # of the alignment, as in prepared clips
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // 25


class LatentEngine:
    """`DubEngine` of a FlashLips model folder."""

    def __init__(
        self,
        networks: FlashLips,
        autoencoder: PixelShuffleCodec | SdxlVae,
        model: str,
        device: torch.device,
    ) -> None:
        """model: name and hash of the weights, for the record.  Raises: WeightsError when a needed network is absent."""
        if networks.editor is None or (networks.distilled is None and networks.lips is None):
            raise WeightsError(f"{model}: holds no editor with lips encoder.", "lipsync train dub --help")
        self._networks, self._autoencoder = networks.to(device).eval(), autoencoder.to(device).eval()
        self._device = device
        self._features: Tensor | None = None
        self._track: LipsTrack | None = None
        self.spec = EngineSpec(
            name="flashlips",
            model=model,
            side_px=networks.config.image_px,
            drives=frozenset({"audio", "video"} if networks.audio2lips else {"video"}),
            window_frames=32,
            overlap_frames=0,
            any_rate=True,
            reference_frames=64,
        )

    def align(self, landmarks: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        matrices = fit_similarity(landmarks, CropGeometry(self.spec.side_px))
        return smooth_matrices(matrices, times_s, SMOOTHING_S)

    def prepare(self, references: Crops, drive: Drive, seed: int, tell: Tell) -> None:
        own = self._read(references)
        rest = rest_of(own, references.landmarks)
        if isinstance(drive, FaceDrive):
            if not len(drive.crops.images):
                raise InputError("no face is seen in what is to drive the mouth.", "give a video with a face")
            lips = self._read(drive.crops)
            moved = retargeted(lips, rest_of(lips, drive.crops.landmarks), rest)
            self._track = LipsTrack(drive.crops.times_s, moved)
        else:
            self._track = self._hear(references, own, rest, drive, seed)
        # The widest mouth shows the most teeth, which the editor cannot know from anything else.
        widest = int(np.argmax([mouth_open(points) for points in references.landmarks]))
        face = self._faces(references.images[[widest]])
        with torch.inference_mode(), self._precision():
            self._features = self._networks.reference_features(self._autoencoder, face)

    def generate(self, crops: Crops) -> np.ndarray:
        assert self._track is not None
        lips = torch.from_numpy(self._track.at(crops.times_s)).to(self._device)
        masks = torch.from_numpy(mouth_mask(crops.landmarks, self.spec.side_px))[:, None].to(self._device)
        parts = [slice(k, k + BATCH) for k in range(0, len(lips), BATCH)]
        return np.concatenate([self._draw(crops.images[p], masks[p], lips[p]) for p in parts])

    def release(self) -> None:
        self._features = self._track = None

    @torch.inference_mode()
    def _draw(self, images: np.ndarray, masks: Tensor, lips: Tensor) -> np.ndarray:
        assert self._features is not None
        with self._precision():
            faces = self._faces(images)
            drawn = self._networks.edit(self._autoencoder, faces, masks, self._features, lips)
        pixels = (drawn.float().clamp(-1, 1) + 1) * 127.5
        return pixels.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @torch.inference_mode()
    def _read(self, crops: Crops) -> np.ndarray:
        """Lips numbers (N, M) of a face."""
        parts = [crops.images[k : k + BATCH] for k in range(0, len(crops.images), BATCH)]
        return torch.cat([self._networks.read_lips(self._faces(part)) for part in parts]).cpu().numpy()

    def _hear(
        self, references: Crops, own: np.ndarray, rest: np.ndarray, drive: SoundDrive, seed: int
    ) -> LipsTrack:
        model = self._networks.audio2lips
        if model is None:
            raise WeightsError(f"{self.spec.model}: the weights cannot hear.", "use --driver-video")
        if not drive.speech.any():
            raise InputError("no speech is heard in what is to drive the mouth.", "give a file with speech")
        count = len(drive.speech)
        times_s = np.arange(count) / 25
        samples = np.zeros(SAMPLES_PER_FRAME * count, np.float32)
        samples[: len(drive.samples)] = drive.samples[: len(samples)]
        spread = np.linspace(0, len(own) - 1, model.config.references).round().astype(int)
        pose = None
        if model.config.pose:  # as far as the references tell how the head is turned at any time
            turned = LipsTrack(references.times_s, head_pose(references.landmarks)).at(times_s)
            pose = torch.from_numpy(turned).to(self._device)
        heard = hear(model, torch.from_numpy(samples).to(self._device))
        lips = sample_lips(model, heard, torch.from_numpy(own[spread]).to(self._device), seed=seed, pose=pose)
        return LipsTrack(times_s, closed_in_silence(lips.cpu().numpy(), rest, drive.speech))

    def _faces(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2)
        return pixels.float() / 127.5 - 1

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")


def load_latent_engine(model: str, device: str) -> LatentEngine:
    """model: a folder that `lipsync train dub` has written.  Raises: WeightsError when weights are missing or damaged."""
    folder = load_model_folder(Path(model), network=NETWORK)
    networks = load_flashlips(folder)
    autoencoder = load_autoencoder(networks.config.autoencoder)
    digest = read_sums(folder.path)[WEIGHTS_NAME]
    return LatentEngine(networks, autoencoder, f"{folder.name}@{digest}", resolve_device(device))
