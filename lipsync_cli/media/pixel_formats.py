"""Which pixel format keeps what another one holds."""

from __future__ import annotations

import av


def bits_of(name: str) -> int:
    """Bits of each sample of FFmpeg's pixel format `name`."""
    return max(component.bits for component in av.VideoFormat(name).components)


def chroma_step(name: str) -> tuple[int, int]:
    """Pixels across and down that share one chroma sample of FFmpeg's pixel format `name`."""
    wide, high = _chroma_size(av.VideoFormat(name, 16, 16))
    return 16 // wide, 16 // high


def is_whole(name: str, width: int, height: int) -> bool:
    """Whether a picture of this size has whole chroma samples only."""
    across, down = chroma_step(name)
    return width % across == height % down == 0


def nearest_format(source: str, formats: tuple[str, ...]) -> str:
    """The one of `formats` that loses least of `source`, and of those the one that adds least."""
    return (
        source
        if source in formats
        else min(formats, key=lambda name: (_lost(source, name), _added(source, name)))
    )


def loses(source: str, target: str) -> bool:
    """Whether pictures of format `source` cannot come back whole from `target`."""
    return any(_lost(source, target))


def _lost(source: str, target: str) -> tuple[int, ...]:
    old, new = av.VideoFormat(source, 16, 16), av.VideoFormat(target, 16, 16)
    return (
        int(len(old.components) >= 3 > len(new.components)),
        sum(max(0, a - b) for a, b in zip(_chroma_size(old), _chroma_size(new), strict=True)),
        max(0, bits_of(source) - bits_of(target)),
        int(old.is_rgb != new.is_rgb and len(old.components) >= 3),
        int(_has_alpha(old) > _has_alpha(new)),
    )


def _added(source: str, target: str) -> tuple[int, ...]:
    old, new = av.VideoFormat(source, 16, 16), av.VideoFormat(target, 16, 16)
    return (
        _has_alpha(new) - _has_alpha(old),
        sum(_chroma_size(new)) - sum(_chroma_size(old)),
        bits_of(target) - bits_of(source),
        int(target.startswith("yuvj") != source.startswith("yuvj")),
        int(target.startswith("nv")),
    )


def _chroma_size(pixel_format: av.VideoFormat) -> tuple[int, int]:
    component = pixel_format.components[min(1, len(pixel_format.components) - 1)]
    return component.width, component.height


def _has_alpha(pixel_format: av.VideoFormat) -> int:
    return int(any(component.is_alpha for component in pixel_format.components))
