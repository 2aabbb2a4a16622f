"""Make `talking_photo.mp4`: a photograph that speaks, with its sound early by a known time.

    python examples/make_talking_photo.py --lead-ms 120 --out talking_photo.mp4

The mouth follows the phonemes that the voice speaks, with the times the voice itself gives them (corrected by a
constant, see HEARD_BEFORE_S): lips shut for m, b
and p, the lower lip rises for f and v, rounds for w and oo, opens for vowels, and every sound leans on its neighbours
(dominance of Gaussians, after Cohen and Massaro 1993, "Modeling coarticulation in synthetic visual speech").
Lips and sound
agree because they are made from the same list of times; no time was set by what a sync network reads. The sentence and
how wide the mouth opens were: of three sentences, the first was too short for a network to answer on.

Sources. Picture: Eileen Collins, official NASA portrait, "Great Images in NASA", public domain, cut out of the
`astronaut` sample picture of scikit-image (see examples/README.md). Voice: hibari-tts 0.2.1, American English,
Apache-2.0, the voice in its package, seed 0.

Needs `pip install -e ".[test]"`, for the voice.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import hibari
import numpy as np
import onnxruntime
from scipy.interpolate import RBFInterpolator
from scipy.spatial import Delaunay

from lipsync_cli.core.output import atomic_path
from lipsync_cli.faces.mesh import region_of_detection, region_of_points
from lipsync_cli.tasks.faces import face_models

PHOTO = Path(__file__).with_name("astronaut.jpg")
TEXT = (
    "If the sound of my voice and the shape of my mouth do not move together,"
    " you will notice before I have finished this."
)
RATE = Fraction(25)
SIDE_PX = 480
PHOTO_TO_CLIP = 1.9  # enlargement; the clip shows the middle of the photograph's top
VOICE_STEP_S = 0.025  # the voice counts durations in these
# A phoneme is heard this much before the time its durations add up to: where the energy of 100…900 Hz of three texts
# agrees best (r = 0.80…0.82) with which of their phonemes are voiced.
HEARD_BEFORE_S = 0.050

# ---------------------------------------------------------------- what is said, and when


@dataclass(frozen=True)
class Sound:
    """One phoneme, in hibari's alphabet, from start_s to end_s."""

    phoneme: str
    start_s: float
    end_s: float


def speak(text: str) -> tuple[np.ndarray, list[Sound]]:
    """24 kHz samples, and the phonemes they are made of."""
    voice = hibari.Hibari()
    voice.sess = _session_that_tells_durations(Path(voice.model_path))
    pieces, sounds, start_s = [], [], 0.0
    for phonemes in voice.phonemize(text):
        ids = voice.ids(phonemes)
        *spectrum, steps = voice.sess.run(
            None, {"ids": np.asarray([ids], np.int64), "speed": np.ones(1, np.float32)}
        )
        ends_s = start_s - HEARD_BEFORE_S + VOICE_STEP_S * np.cumsum(steps)
        known = [character for character in phonemes if character in voice.vocab]
        for character, begin, end in zip(known, ends_s, ends_s[1:], strict=False):
            sounds.append(Sound(character, float(begin), float(end)))
        samples = hibari.dsp.synth(*(part[0] for part in spectrum), np.random.default_rng(0))
        pieces.append(samples)
        start_s += len(samples) / hibari.SAMPLE_RATE
    return np.concatenate(pieces), sounds


def _session_that_tells_durations(model: Path) -> onnxruntime.InferenceSession:
    """The voice with one more output: how many steps each phoneme lasts.

    Two protobuf messages written one after the other are merged, so appending ModelProto.graph.output.name is enough.
    """

    def message(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2, len(content)]) + content

    output = message(7, message(12, message(1, b"/Round_output_0")))
    return onnxruntime.InferenceSession(model.read_bytes() + output, providers=["CPUExecutionProvider"])


# ---------------------------------------------------------------- how the mouth goes with it


@dataclass(frozen=True)
class Viseme:
    """Where a phoneme wants the mouth.

    gap: between the lips, 0 shut … 1 wide open.  width: −1 rounded … 1 spread.  will: how much it insists against its
    neighbours.
    """

    gap: float
    width: float
    will: float = 1.0


def _visemes() -> dict[str, Viseme]:
    table = {
        "mbp": Viseme(0.0, 0.0, 6.0),
        "fv": Viseme(0.05, 0.1, 4.0),
        "θð": Viseme(0.22, 0.1, 1.0),
        "szdtnlTɾ": Viseme(0.2, 0.2, 0.7),
        "ʃʒʧʤ": Viseme(0.2, -0.6, 1.5),
        "kɡŋhʔ": Viseme(0.3, 0.0, 0.25),
        "ɹ": Viseme(0.22, -0.5, 0.9),
        "w": Viseme(0.1, -1.0, 2.5),
        "j": Viseme(0.2, 0.5, 0.6),
        "u": Viseme(0.18, -0.9, 1.5),
        "ʊ": Viseme(0.28, -0.5, 1.0),
        "OW": Viseme(0.55, -0.6, 1.3),
        "ɔY": Viseme(0.65, -0.4, 1.3),
        "ɑæI": Viseme(0.85, 0.2, 1.3),
        "ʌɐ": Viseme(0.6, 0.1, 1.1),
        "ɛA": Viseme(0.6, 0.5, 1.2),
        "ɜ": Viseme(0.4, -0.3, 1.1),
        "ɪᵻ": Viseme(0.4, 0.4, 1.0),
        "i": Viseme(0.3, 0.8, 1.1),
        "əᵊ": Viseme(0.35, 0.0, 0.6),
    }
    return {phoneme: viseme for phonemes, viseme in table.items() for phoneme in phonemes}


VISEMES = _visemes()
REST = Viseme(0.0, 0.0, 0.4)
LONGEST_S = 0.16  # what lasts longer ends in silence
STRESS, SPACE = "ˈˌ", " "


def articulate(sounds: list[Sound], times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """gap and width of the mouth at each time; at rest where nothing is said."""
    weights, gaps, widths = [np.full(len(times_s), 0.02)], [0.0], [0.0]
    for viseme, start_s, end_s in _targets(sounds):
        middle, spread = (start_s + end_s) / 2, max(0.03, (end_s - start_s) / 2)
        weights.append(viseme.will * np.exp(-0.5 * ((times_s - middle) / spread) ** 2))
        gaps.append(viseme.gap)
        widths.append(viseme.width)
    share = np.stack(weights) / np.sum(weights, axis=0)
    return np.array(gaps) @ share, np.array(widths) @ share


def _targets(sounds: list[Sound]) -> Iterator[tuple[Viseme, float, float]]:
    """The visemes of the sounds: a stress mark's time belongs to the vowel after it, a space's to both sides."""
    begin: float | None = None
    for sound in sounds:
        if sound.phoneme in STRESS or sound.phoneme == SPACE:
            waited = sound.start_s if sound.phoneme in STRESS else (sound.start_s + sound.end_s) / 2
            begin = waited if begin is None else begin
            continue
        start_s = sound.start_s if begin is None else begin
        begin = None
        viseme = VISEMES.get(sound.phoneme, REST)
        end_s = sound.end_s if viseme is REST else min(sound.end_s, start_s + LONGEST_S)
        yield viseme, start_s, end_s
        if end_s < sound.end_s:
            yield REST, end_s, sound.end_s


# ---------------------------------------------------------------- the face, and moving it

UPPER_OUTER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
LOWER_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
UPPER_INNER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
JAW = {172: 0.35, 136: 0.5, 150: 0.7, 149: 0.85, 176: 0.95, 148: 1.0, 152: 1.0, 377: 1.0, 400: 0.95, 378: 0.85, 379: 0.7,
       365: 0.5, 397: 0.35}  # fmt: skip
STILL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 1, 2,
         98, 327, 4, 168, 6, 50, 280, 205, 425, 33, 133, 362, 263, 145, 374, 70, 300, 105, 334]  # fmt: skip
UPPER_LIDS = [246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398]
LOWER_LIDS = [7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382]
WIDEST_GAP = 0.5  # of the mouth's width


class TalkingFace:
    """A photograph of a face whose mouth, lids and head can be moved."""

    def __init__(self, photo: np.ndarray, points: np.ndarray) -> None:
        """photo: (S, S, 3) uint8 RGB.  points: (478, 2) face mesh."""
        self._photo = photo.astype(np.float32)
        side = len(photo)
        grid = np.linspace(0, side - 1, 9)
        frame = np.array([(x, y) for x in grid for y in grid if x in grid[[0, -1]] or y in grid[[0, -1]]])
        self._rest = points[:468].astype(np.float64)  # without the irises
        self._frame = frame
        self._all = np.concatenate([self._rest, frame])
        self._triangles = Delaunay(self._all).simplices
        hole = np.zeros((side, side), np.uint8)
        ring = np.concatenate([self._rest[UPPER_INNER], self._rest[LOWER_INNER[-2:0:-1]]])
        cv2.fillPoly(hole, [np.round(ring * 16).astype(np.int32)], 255, shift=4)
        self._hole = cv2.GaussianBlur(hole, (0, 0), 0.8).astype(np.float32) / 255
        self._mouth = np.zeros_like(self._photo)
        self._mouth[:] = (46, 20, 18)
        teeth = cv2.GaussianBlur(cv2.erode(hole, np.ones((3, 3))), (0, 0), 1.2)[..., None] / 255
        self._mouth += teeth * (0.92 * self._photo - self._mouth)

    def draw(self, gap: float, width: float, shut: float, sway: np.ndarray) -> np.ndarray:
        """One picture.  gap, width: of the mouth, see `Viseme`.  shut: of the eyes, 0…1.  sway: (2,) pixels of the head."""
        moved = self._moved(gap, width, shut) + sway
        source = self._sources(np.concatenate([moved, self._frame]))
        skin = cv2.remap(self._photo, *source, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        hole = cv2.remap(self._hole, *source, cv2.INTER_LINEAR)[..., None]
        shift = np.array([[1, 0, sway[0]], [0, 1, sway[1]]])  # teeth go with the skull
        mouth = cv2.warpAffine(self._mouth, shift, self._photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        return np.clip(skin + hole * (mouth - skin), 0, 255).round().astype(np.uint8)

    def _sources(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in the photograph every pixel comes from, x and y, (S, S) float32 each: affine in each triangle."""
        corners = moved[self._triangles]
        (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
        area = abs(ax * by - ay * bx)
        owner = np.zeros(self._hole.shape, np.int32)
        for index in np.argsort(
            area
        ):  # the flat ones, between lips that touch, are painted over by their neighbours
            cv2.fillConvexPoly(owner, np.round(corners[index] * 16).astype(np.int32), int(index), shift=4)
        ones = np.ones((len(corners), 3, 1))
        affine = np.linalg.pinv(np.concatenate([corners, ones], 2)) @ self._all[self._triangles]
        y, x = np.mgrid[0 : len(owner), 0 : len(owner)]
        from_x, from_y = np.einsum("yxk,yxkc->cyx", np.stack([x, y, np.ones_like(x)], -1), affine[owner])
        return from_x.astype(np.float32), from_y.astype(np.float32)

    def _moved(self, gap: float, width: float, shut: float) -> np.ndarray:
        """(468, 2): lips, jaw and lids are placed, thin-plate splines carry everything between."""
        rest = self._rest
        left, right = rest[UPPER_INNER[0]], rest[UPPER_INNER[-1]]
        size = np.linalg.norm(rest[291] - rest[61])
        middle = (left + right) / 2
        narrower = 0.14 - 0.13 * width  # at rest the mouth is narrower than in the photographed smile
        controls: dict[int, np.ndarray] = {index: np.zeros(2) for index in STILL}
        now = rest[LOWER_INNER, 1] - rest[UPPER_INNER, 1]
        along = np.linspace(-1, 1, 11)
        wanted = 0.4 + gap * WIDEST_GAP * size * np.sqrt(np.maximum(0, 1 - along**2))
        extra = np.where(now > 0.5, wanted - now, 0)
        upper = np.where(extra < 0, -0.4 * extra, -0.08 * extra)
        corner = 0.12 * max(0.0, extra[5])  # the corners sink as the jaw falls
        for outline, lift in (
            (UPPER_OUTER, upper),
            (UPPER_INNER, upper),
            (LOWER_INNER, upper + extra),
            (LOWER_OUTER, upper + extra),
        ):
            for index, down, place in zip(outline, lift, along, strict=True):
                across = (rest[index, 0] - middle[0]) * -narrower
                controls[index] = np.array(
                    [across, down + corner * (1 - (1 - place**2)) + 0.03 * size * place**2 * (1 - width)]
                )
        drop = max(0.0, extra[5]) * 0.75
        controls |= {index: np.array([0, drop * share]) for index, share in JAW.items()}
        spline = RBFInterpolator(rest[list(controls)], np.stack(list(controls.values())), smoothing=0.0)
        moved = rest + spline(rest) * _face_only(rest)
        for index, shift in controls.items():
            moved[index] = rest[index] + shift
        moved[UPPER_LIDS] += 0.85 * shut * (rest[LOWER_LIDS] - rest[UPPER_LIDS])
        return moved


def _face_only(points: np.ndarray) -> np.ndarray:
    """1 below the eyes, fading to 0 above them: (n, 1)."""
    top, level = points[:, 1].min(), points[[33, 263], 1].mean()
    return np.clip((points[:, 1] - top) / (level - top), 0, 1)[:, None] ** 4


# ---------------------------------------------------------------- the clip


def talking_frames(sounds: list[Sound], count: int) -> Iterator[np.ndarray]:
    """`count` pictures at 25 a second, (480, 480, 3) uint8 RGB."""
    photo = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2RGB)
    part = round(SIDE_PX / PHOTO_TO_CLIP)
    left = (photo.shape[1] - part) // 2
    photo = cv2.resize(photo[:part, left : left + part], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LANCZOS4)
    face = TalkingFace(photo, _landmarks(photo))
    times_s = np.arange(count) / float(RATE)
    gaps, widths = articulate(sounds, times_s)
    for time, gap, width in zip(times_s, gaps, widths, strict=True):
        blink = float(np.exp(-0.5 * (min(abs(time - at) for at in (0.2, 2.7, 4.9)) / 0.045) ** 2))
        sway = np.array([3.0 * np.sin(1.9 * time), 2.0 * np.sin(2.7 * time + 1)])
        yield face.draw(float(gap), float(width), blink, sway)


def _landmarks(photo: np.ndarray) -> np.ndarray:
    reader = face_models().load()
    mesh = reader.read(photo, region_of_detection(reader.find(photo)[0]))
    return reader.read(photo, region_of_points(mesh.points)).points


def make(out: Path, lead_ms: float, duration_s: float | None = None) -> None:
    """Write the clip.  lead_ms: by how much the sound is early, −300…300.  duration_s: stop early."""
    samples, sounds = speak(TEXT)
    length_s = duration_s or len(samples) / hibari.SAMPLE_RATE + 0.4
    count = round(length_s * float(RATE))
    heard = _placed(samples, -lead_ms / 1000, round(count / float(RATE) * hibari.SAMPLE_RATE))
    with atomic_path(out) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        picture = container.add_stream("libx264", rate=RATE)
        picture.width = picture.height = SIDE_PX
        picture.pix_fmt = "yuv420p"
        picture.options = {"crf": "24", "preset": "slow"}
        picture.thread_count = 1
        sound = container.add_stream("aac", rate=hibari.SAMPLE_RATE, layout="mono")
        sound.bit_rate = 64_000
        for number, image in enumerate(talking_frames(sounds, count)):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, 1 / RATE
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for at in range(0, len(heard), 1024):
            piece = av.AudioFrame.from_ndarray(heard[None, at : at + 1024], "fltp", "mono")
            piece.sample_rate, piece.pts, piece.time_base = (
                hibari.SAMPLE_RATE,
                at,
                Fraction(1, hibari.SAMPLE_RATE),
            )
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))


def _placed(samples: np.ndarray, delay_s: float, length: int) -> np.ndarray:
    """The samples `delay_s` later, cut and filled with silence to `length`."""
    delay = round(delay_s * hibari.SAMPLE_RATE)
    out = np.zeros(length, np.float32)
    source = samples[max(0, -delay) :][: max(0, length - max(0, delay))]
    out[max(0, delay) : max(0, delay) + len(source)] = source
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make talking_photo.mp4, whose sound is early by a known time."
    )
    parser.add_argument("--lead-ms", type=float, default=120.0, help="how early the sound is; negative: late")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("talking_photo.mp4"))
    parser.add_argument("--duration-s", type=float, help="stop after this long")
    wanted = parser.parse_args()
    make(wanted.out, wanted.lead_ms, wanted.duration_s)


if __name__ == "__main__":
    main()
