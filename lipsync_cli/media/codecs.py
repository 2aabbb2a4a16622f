"""The picture codecs that a result can be written in, and which of them follows which source."""

from __future__ import annotations

from dataclasses import dataclass

import av


@dataclass(frozen=True)
class VideoCodec:
    """One choice of `--video-codec`.

    encoder, options: of FFmpeg.  name: FFmpeg's name of what it makes.  quality: the constant rate factor when none is
    asked for, lower is better; None where the profile alone decides.  worst: the largest factor.
    """

    name: str
    encoder: str
    options: tuple[tuple[str, str], ...] = ()
    quality: int | None = None
    worst: int = 51

    @property
    def pixel_formats(self) -> tuple[str, ...]:
        return tuple(f.name for f in av.Codec(self.encoder, "w").video_formats or ())


def _prores(profile: int) -> VideoCodec:
    return VideoCodec("prores", "prores_ks", (("profile", str(profile)), ("vendor", "apl0")))


def _dnx(profile: str) -> VideoCodec:
    return VideoCodec("dnxhd", "dnxhd", (("profile", profile),))


# Presets are the slowest that keep 1080p well under half of what two cores have for 10 frames a second
VIDEO_CODECS = {
    "h264": VideoCodec("h264", "libx264", (("preset", "veryfast"),), 16),
    "hevc": VideoCodec("hevc", "libx265", (("preset", "superfast"),), 18),
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
    "av1": VideoCodec("av1", "libsvtav1", (("preset", "10"),), 24, 63),
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


def follow_codec(codec: str, profile: str | None, depth: int, can_hold: frozenset[str]) -> tuple[str, str]:
    """(choice, note) for a source of FFmpeg's `codec` and bit depth; the note says why when the codec is another.

    can_hold: FFmpeg's names of the codecs that the output's container takes.
    """
    choice = _BY_PROFILE.get((codec, profile or "")) or _FAMILIES.get(codec)
    if choice and VIDEO_CODECS[choice].name in can_hold:
        return choice, ""
    others = ("ffv1", "prores-422-hq") if codec in _MASTERS else ("h264", "vp9", "av1")
    others += ("dnxhr-hqx" if depth > 8 else "dnxhr-hq",)
    choice = next((c for c in others if VIDEO_CODECS[c].name in can_hold), choice or "h264")
    return choice, f"the picture is {codec}, which is not written here: {choice} instead"
