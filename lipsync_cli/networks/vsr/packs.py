"""Batches by a budget of frames: clips of about one length together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence


def pack_by_frames(lengths: Sequence[int], budget_frames: int) -> list[tuple[int, ...]]:
    """Every clip in exactly one pack; number of clips × longest clip of a pack is at most the budget.

    lengths: frames of each clip.  Shortest first, so that neighbours share a pack (Auto-AVSR §4).
    Raises: ValueError when a clip is longer than the budget.
    """
    packs: list[tuple[int, ...]] = []
    pack: list[int] = []
    for clip in sorted(range(len(lengths)), key=lambda clip: (lengths[clip], clip)):
        if lengths[clip] > budget_frames:
            raise ValueError(f"a clip of {lengths[clip]} frames does not fit into {budget_frames}")
        if pack and (len(pack) + 1) * lengths[clip] > budget_frames:
            packs.append(tuple(pack))
            pack = []
        pack.append(clip)
    return [*packs, tuple(pack)] if pack else packs
