"""Before and after, for the eye: both clips beside each other, and a sheet of stills with what changed between them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, repeat, zip_longest
from pathlib import Path

import av
import cv2
import numpy as np

from lipsync_cli.core.errors import InputError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import SILENT, Progress, Stage
from lipsync_cli.media.encode_sound import as_integers, encoded_sound
from lipsync_cli.media.frames import Frame, read_frames, sample_frames
from lipsync_cli.media.mix import Laid, mixed
from lipsync_cli.media.native import read_native
from lipsync_cli.media.patch import Box
from lipsync_cli.media.probe import MediaInfo, probe, require_video

_MAX_RATE = Fraction(60)
_HEIGHT_PX = 720  # of either clip, at most
_CELL_PX = 360
_BT709 = ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-color_primaries", "bt709"]
_BT709 += ["-color_trc", "bt709"]
_LABEL_PX = 28
_GAIN = 4  # of differences, to be seen
_CHANGED = 10  # codes; less is the loss of encoding
_TITLES = ("source", "result", f"difference x {_GAIN}")


def write_side_by_side(source: Path, result: Path, out: Path, progress: Progress = SILENT) -> None:
    """Both clips beside each other, the source on the left, with the sound of the result: H.264 in MP4, a preview.

    Pictures are matched by time; the source's last one stands where the result is longer. Streamed.
    Raises: InputError for an unusable file.
    """
    from moviepy import AudioFileClip, VideoClip  # takes a second to load

    info = probe(result)
    video = require_video(info)
    rate = min(video.rate, _MAX_RATE)
    start, end = video.start, _picture_end(info)
    count = max(1, round((end - start) * rate))
    with (
        tempfile.TemporaryDirectory(prefix="lipsync-") as folder,
        progress.stage("side by side", count) as stage,
        atomic_path(out) as path,
    ):
        clip = VideoClip(_Pairs(source, result, rate, stage), duration=count / float(rate))
        sound = Path(folder, "sound.wav")
        if info.audio:
            _write_sound(info, start, end, sound)
            clip = clip.with_audio(AudioFileClip(str(sound)))
        clip.write_videofile(
            str(path),
            fps=float(rate),
            codec="libx264",
            preset="veryfast",
            audio_codec="aac",
            audio_bitrate="192k",
            temp_audiofile_path=folder,
            ffmpeg_params=["-crf", "18", *_BT709],
            logger=None,
        )
        clip.close()


class _Pairs:
    """Picture by picture, as moviepy asks for them: forwards, and at times the same one again."""

    def __init__(self, source: Path, result: Path, rate: Fraction, stage: Stage) -> None:
        self._frames = _paired(source, result, rate)
        self._rate, self._stage, self._at = float(rate), stage, -1

    def __call__(self, time_s: float) -> np.ndarray:
        while self._at < round(time_s * self._rate):
            following = next(self._frames, None)
            if following is None:
                break
            self._image, self._at = following, self._at + 1
            self._stage.advance()
        return self._image


def _paired(source: Path, result: Path, rate: Fraction) -> Iterator[np.ndarray]:
    width, height = _size(result)
    last = np.zeros((height, width, 3), np.uint8)
    left, right = (
        sample_frames(path, rate=rate, long_side_px=max(width, height)) for path in (source, result)
    )
    for before, after in zip_longest(left, right):
        if after is None:
            return
        if before is not None:
            last = _fitted(before.image, width, height)
        pair = [
            _titled(image, title)
            for image, title in ((last, _TITLES[0]), (_fitted(after.image, width, height), _TITLES[1]))
        ]
        yield np.concatenate(pair, axis=1)


def _picture_end(info: MediaInfo) -> Fraction:
    """When the last picture goes, which may be long before the sound ends."""
    begin, back = require_video(info).start, Fraction(2)
    while True:
        since = max(begin, info.start + info.duration - back)
        ends = [frame.time + frame.duration for frame in read_native(info.path, start=since)]
        if ends or since == begin:
            return max(ends, default=begin)
        back *= 8


def _size(path: Path) -> tuple[int, int]:
    """Even width and height, at most `_HEIGHT_PX` high."""
    video = require_video(probe(path))
    scale = min(1.0, _HEIGHT_PX / video.height)
    return round(video.width * scale / 2) * 2, round(video.height * scale / 2) * 2


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    same = image.shape[:2] == (height, width)
    return image if same else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _titled(image: np.ndarray, text: str) -> np.ndarray:
    """A copy with words in its upper left corner."""
    image = np.ascontiguousarray(image).copy()
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(image, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness, cv2.LINE_AA)
    return image


def _write_sound(info: MediaInfo, start: Fraction, end: Fraction, path: Path) -> None:
    """The first sound track as a WAV file that begins when the picture does."""
    track = info.audio[0]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=track.sample_rate_hz, layout=track.layout)
        blocks = mixed(
            start, end, track.sample_rate_hz, track.layout, parts=[Laid(info.path, 0, start, end, start)]
        )
        for _, packets in encoded_sound(stream, as_integers(blocks, 16), track.layout):
            out.mux(packets)


def write_contact_sheet(
    source: Path, result: Path, out: Path, times: Sequence[Fraction], boxes: Sequence[Box | None] = ()
) -> None:
    """A PNG with a row for each of `times` (seconds): source, result, and their difference made four times larger.

    boxes: what to show of each, in upright pixels; None or nothing = around what differs, or the whole picture.
    Raises: InputError for an unusable file or a time without picture.
    """
    rows = []
    for time, box in zip(times, chain(boxes, repeat(None)), strict=False):
        before, after = (_picture_at(path, time) for path in (source, result))
        left, top, right, bottom = box or _changed_box(before.image, after.image)
        cells = [image[top:bottom, left:right] for image in (before.image, after.image)]
        change = np.abs(cells[1].astype(np.int16) - cells[0])
        cells.append(np.minimum(_GAIN * change, 255).astype(np.uint8))
        rows.append(_row(cells, f"{float(after.time):.3f} s, mean difference {change.mean():.2f} of 255"))
    sheet = np.concatenate([_titles(), *rows], axis=0)
    with atomic_path(out) as path:
        path.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def _picture_at(path: Path, time: Fraction) -> Frame:
    """The picture that is on screen at `time`, or the first one after it."""
    shown = None
    for frame in read_frames(path, start=time - 1):
        if shown is None or frame.time <= time:
            shown = frame
        if frame.time >= time:
            break
    if shown is None:
        raise InputError(f"{path}: no picture at {float(time):.3f} s.", f"lipsync doctor '{path}'")
    return shown


def _changed_box(before: np.ndarray, after: np.ndarray) -> Box:
    """A square around what differs by more than encoding makes it; the whole picture where nothing does."""
    height, width = before.shape[:2]
    change = cv2.boxFilter(np.abs(after.astype(np.int16) - before).max(axis=2).astype(np.float32), -1, (9, 9))
    rows, columns = np.nonzero(change > _CHANGED)
    if not len(rows):
        return 0, 0, width, height
    centre_x, centre_y = (int(columns.min() + columns.max()) // 2, int(rows.min() + rows.max()) // 2)
    side = min(width, height, round(1.6 * max(np.ptp(rows), np.ptp(columns), 40)))
    left, top = (
        min(max(0, centre - side // 2), full - side)
        for centre, full in ((centre_x, width), (centre_y, height))
    )
    return left, top, left + side, top + side


def _row(cells: list[np.ndarray], text: str) -> np.ndarray:
    height, width = cells[0].shape[:2]
    scale = _CELL_PX / width
    size = (_CELL_PX, max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    images = [cv2.resize(np.ascontiguousarray(cell), size, interpolation=how) for cell in cells]
    return np.concatenate([np.concatenate(images, axis=1), _strip(text)], axis=0)


def _titles() -> np.ndarray:
    return np.concatenate([_strip(title, _CELL_PX) for title in _TITLES], axis=1)


def _strip(text: str, width: int = 3 * _CELL_PX) -> np.ndarray:
    strip = np.full((_LABEL_PX, width, 3), 255, np.uint8)
    cv2.putText(strip, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
