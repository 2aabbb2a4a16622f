"""The picture codecs that a result can be written in, and which of them follows which source."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

from lipsync_cli.media.probe import VideoStream


@dataclass(frozen=True)
class VideoCodec:
    """One choice of `--video-codec`.

    encoder, options: of FFmpeg.  name: FFmpeg's name of what it makes.  quality: the constant rate factor when none is
    asked for, lower is better; None where the profile alone decides.  worst: the largest factor.  any_size: whether a
    picture may have half a chroma sample at its edge.
    """

    name: str
    encoder: str
    options: tuple[tuple[str, str], ...] = ()
    quality: int | None = None
    worst: int = 51
    any_size: bool = True

    @property
    def pixel_formats(self) -> tuple[str, ...]:
        return tuple(f.name for f in av.Codec(self.encoder, "w").video_formats or ())


def _prores(profile: int) -> VideoCodec:
    # prores_ks holds the nominal rate to a few percent and takes three times as long
    return VideoCodec("prores", "prores_aw", (("profile", str(profile)), ("vendor", "apl0")))


def _dnx(profile: str) -> VideoCodec:
    return VideoCodec("dnxhd", "dnxhd", (("profile", profile),))


# Presets are the slowest that keep 1080p well under half of what two cores have for 10 frames a second
VIDEO_CODECS = {
    "h264": VideoCodec("h264", "libx264", (("preset", "veryfast"),), 16, any_size=False),
    "hevc": VideoCodec("hevc", "libx265", (("preset", "superfast"),), 18, any_size=False),
    "prores-proxy": _prores(0),
    "prores-lt": _prores(1),
    "prores-422": _prores(2),
    "prores-422-hq": _prores(3),
    "prores-4444": _prores(4),
    "prores-4444-xq": _prores(5),
    "dnxhd": _dnx("dnxhd"),
    "dnxhr-lb": _dnx("dnxhr_lb"),
    "dnxhr-sq": _dnx("dnxhr_sq"),
    "dnxhr-hq": _dnx("dnxhr_hq"),
    "dnxhr-hqx": _dnx("dnxhr_hqx"),
    "dnxhr-444": _dnx("dnxhr_444"),
    "ffv1": VideoCodec("ffv1", "ffv1", (("level", "3"), ("slices", "4"), ("slicecrc", "1"), ("g", "1"))),
    "vp9": VideoCodec(
        "vp9",
        "libvpx-vp9",
        (("deadline", "realtime"), ("cpu-used", "6"), ("row-mt", "1")),
        20,
        63,
    ),
    "av1": VideoCodec("av1", "libsvtav1", (("preset", "10"),), 24, 63, any_size=False),
}
_BY_PROFILE = {
    ("prores", "Proxy"): "prores-proxy",
    ("prores", "LT"): "prores-lt",
    ("prores", "Standard"): "prores-422",
    ("prores", "HQ"): "prores-422-hq",
    ("prores", "4444"): "prores-4444",
    ("prores", "XQ"): "prores-4444-xq",
    ("dnxhd", "DNXHR LB"): "dnxhr-lb",
    ("dnxhd", "DNXHR SQ"): "dnxhr-sq",
    ("dnxhd", "DNXHR HQ"): "dnxhr-hq",
    ("dnxhd", "DNXHR HQX"): "dnxhr-hqx",
    ("dnxhd", "DNXHR 444"): "dnxhr-444",
}
_FAMILIES = {"h264": "h264", "hevc": "hevc", "ffv1": "ffv1", "vp9": "vp9", "av1": "av1", "libdav1d": "av1"}
_FAMILIES |= {"prores": "prores-422-hq", "dnxhd": "dnxhd"}
_MASTERS = {  # codecs of masters without loss, or nearly: H.264 would throw away what they were made to keep
    *("rawvideo", "v210", "v410", "r210", "v308", "v408", "png", "qtrle", "tiff", "dpx", "exr"),
    *("huffyuv", "ffvhuff", "utvideo", "magicyuv", "cfhd", "jpeg2000", "libopenjpeg"),
}


DNXHD_MBPS = (
    *(
        36,
        42,
        45,
        60,
        63,
        75,
        80,
        84,
        85,
        90,
        100,
        110,
        115,
        116,
        120,
        121,
        145,
        146,
        175,
        176,
        180,
        183,
        185,
    ),
    *(220, 240, 290, 291, 350, 365, 366, 390, 440, 730, 880),
)


def is_dnxhd(width: int, height: int, rate: Fraction, pixel_format: str, megabits: int) -> bool:
    """Whether SMPTE VC-3 has such a picture at such a rate, as far as the encoder knows."""
    context: Any = av.CodecContext.create("dnxhd", "w")
    context.width, context.height, context.pix_fmt = width, height, pixel_format
    context.framerate, context.time_base = rate, 1 / rate
    context.bit_rate = megabits * 1_000_000
    try:
        context.open()
    except FFmpegError:
        return False
    return True


def follow_codec(
    source: VideoStream, profile: str | None, full_chroma: bool, can_hold: frozenset[str]
) -> tuple[str, str]:
    """(choice, note) for a source; the note says why when the codec is another.

    profile: as FFmpeg says it.  full_chroma: whether every pixel has a colour of its own.  can_hold: FFmpeg's names of
    the codecs that the output's container takes.
    """
    codec = source.codec
    choice = _BY_PROFILE.get((codec, profile or "")) or _FAMILIES.get(codec)
    if choice and VIDEO_CODECS[choice].name in can_hold:
        return choice, ""
    prores = "prores-4444" if full_chroma else "prores-422-hq"
    others = ("ffv1", prores) if codec in _MASTERS else ("h264", "vp9", "av1")
    others += ("dnxhr-hqx" if source.bit_depth > 8 else "dnxhr-hq", "ffv1")
    choice = next((c for c in others if VIDEO_CODECS[c].name in can_hold), choice or "h264")
    return choice, f"the picture is {codec}, which is not written here: {choice} instead"
