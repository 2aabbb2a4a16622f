"""How fast `lipsync read` is by stage, and whether a long batch keeps its memory flat, on two cores.

    python benchmarks/read.py                       # stages, and a batch of 40 links
    python benchmarks/read.py --links 10000         # hours of clips
    python benchmarks/read.py --clips FOLDER --json

The clips are the example, or those of a folder; the batch links the same few over and over. Processor seconds are
shown beside wall seconds because a busy machine changes the second and hardly the first.

Target: at least 4× real time, and memory that does not grow from the first tenth of the batch to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "talking_photo.mp4"
CORES = 2


class Clock:
    """Wall and processor seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def time(self, stage: str, work: Callable[[], Any]) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        spent = self.seconds.setdefault(stage, [0.0, 0.0])
        spent[0] += time.perf_counter() - wall
        spent[1] += time.process_time() - processor
        return result


def measure_stages(clips: list[Path], model: str) -> dict[str, Any]:
    """Every stage in this process, one after the other."""
    from fractions import Fraction

    from lipsync_cli.media.frames import sample_frames
    from lipsync_cli.tasks.read import LipReading, ReadOptions
    from lipsync_cli.tasks.read_mouths import LONG_SIDE_PX, ClipEnd, mouth_pieces

    reading, clock, footage_s = LipReading(ReadOptions(model=model, device="cpu")), Clock(), 0.0
    for clip in clips:
        found = clock.time(
            "decode, detect, mesh, crop", lambda clip=clip: list(mouth_pieces(clip, reading.source))
        )
        footage_s += sum(end.duration_s for end in found if isinstance(end, ClipEnd))
        pieces = [piece for piece in found if not isinstance(piece, ClipEnd) and piece.speaks]
        clock.time("network, beam search, word times", lambda pieces=pieces: pieces and reading.read(pieces))
        clock.time(
            "(decode alone)",
            lambda clip=clip: sum(
                1 for _ in sample_frames(clip, rate=Fraction(25), long_side_px=LONG_SIDE_PX)
            ),
        )
    whole = [spent for stage, spent in clock.seconds.items() if not stage.startswith("(")]
    return {
        "footage_s": footage_s,
        "stages": {stage: {"wall_s": w, "processor_s": p} for stage, (w, p) in clock.seconds.items()},
        "times_real_time": footage_s / sum(wall for wall, _ in whole),
        "times_real_time_by_processor": footage_s / sum(processor for _, processor in whole),
    }


def measure_batch(clips: list[Path], model: str, links: int, workers: int) -> dict[str, Any]:
    """One `lipsync read` over many links, with its memory, children included, as it goes."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder, "clips"), Path(folder, "out")
        inputs.mkdir()
        for number in range(links):
            (inputs / f"{number:05d}.mp4").symlink_to(clips[number % len(clips)].resolve())
        command = [
            sys.executable,
            "-m",
            "lipsync_cli",
            "read",
            str(inputs),
            "--out",
            str(out),
            "--model",
            model,
        ]
        command += ["--device", "cpu", "--quiet", "--workers", str(workers)]
        started, memory = time.perf_counter(), []
        run = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": str(CORES)}, stderr=subprocess.DEVNULL
        )
        while run.poll() is None:
            time.sleep(0.5)
            memory.append((len(list(out.glob("*.read.json"))), _memory_mb(run.pid)))
        wall_s = time.perf_counter() - started
        records = [json.loads(path.read_text()) for path in out.glob("*.read.json")]
    footage_s = sum(record["duration_s"] for record in records)
    busy = [used for done, used in memory if done >= links / 10]
    return {
        "links": links,
        "records": len(records),
        "ok": sum(record["status"] == "ok" for record in records),
        "wall_s": wall_s,
        "clips_per_s": links / wall_s,
        "times_real_time": footage_s / wall_s,
        "memory_mb_after_a_tenth": busy[0] if busy else None,
        "memory_mb_peak": max((used for _, used in memory), default=None),
        "memory_mb_at_the_end": busy[-2] if len(busy) > 2 else None,
    }


def _memory_mb(pid: int) -> float:
    """Resident memory of a process and its children; shared pages count in each."""
    pids, total = [pid], 0
    while pids:
        one = pids.pop()
        try:
            for thread in Path(f"/proc/{one}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it has just ended
            continue
    return total / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, help="a folder with clips; the example by default")
    parser.add_argument("--model", default="vsr-grid-tiny")
    parser.add_argument("--links", type=int, default=40)
    parser.add_argument("--workers", type=int, default=CORES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    clips = sorted(arguments.clips.rglob("*.mp4"))[:8] if arguments.clips else [EXAMPLE]
    measured = {
        "stages": measure_stages(clips, arguments.model),
        "batch": measure_batch(clips, arguments.model, arguments.links, arguments.workers),
    }
    print(json.dumps(measured) if arguments.json else _words(measured))


def _words(measured: dict[str, Any]) -> str:
    stages, batch = measured["stages"], measured["batch"]
    lines = [f"{stages['footage_s']:.1f} s of footage, in one process"]
    for stage, spent in stages["stages"].items():
        lines.append(f"  {stage:36} {spent['wall_s']:7.2f} s   {spent['processor_s']:7.2f} s of processor")
    lines.append(
        f"  {stages['times_real_time']:.1f} × real time ({stages['times_real_time_by_processor']:.1f} × by processor)"
    )
    lines += [f"batch: {name} {value}" for name, value in batch.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
