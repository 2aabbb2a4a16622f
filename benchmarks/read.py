"""How fast `lipsync read` is by stage, and whether a long batch keeps its memory flat, on two cores.

    python benchmarks/read.py                       # stages, and a batch of 40 links
    python benchmarks/read.py --links 10000 --kill  # a long batch, killed half way and resumed
    python benchmarks/read.py --clips FOLDER --json

The clips are the example, or those of a folder (made before, so that they may be short, damaged or without a face);
the batch links the same few over and over. Processor seconds are shown beside wall seconds because a busy machine
changes the second and hardly the first: two idle cores give twice the speed by processor at best.

With --kill the batch is ended by SIGKILL when half of its records are there, and goes on with --resume; it fails when
a record is lost, written twice or damaged.

Target: at least 4× real time, and memory that does not grow from the first tenth of the batch to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
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
    from lipsync_cli.core.errors import LipsyncError
    from lipsync_cli.media.frames import sample_frames
    from lipsync_cli.tasks.read import LipReading, ReadOptions
    from lipsync_cli.tasks.read_mouths import FRAME_RATE, LONG_SIDE_PX, ClipEnd, Piece
    from lipsync_cli.tasks.read_workers import find_pieces

    reading, clock = LipReading(ReadOptions(model=model, device="cpu")), Clock()
    found = clock.time(
        "decode, detect, mesh, crop",
        lambda: [said for _, said in find_pieces(clips, reading.source, workers=0)],
    )
    footage_s = sum(said.duration_s for said in found if isinstance(said, ClipEnd))
    pieces = [said for said in found if isinstance(said, Piece) and said.speaks]
    clock.time("network, beam search, word times", lambda: [reading.read([piece]) for piece in pieces])
    for clip in clips:
        with suppress(LipsyncError):
            frames = sample_frames(clip, rate=FRAME_RATE, long_side_px=LONG_SIDE_PX)
            clock.time("(decode alone)", lambda frames=frames: sum(1 for _ in frames))
    whole = [spent for stage, spent in clock.seconds.items() if not stage.startswith("(")]
    return {
        "footage_s": footage_s,
        "stages": {stage: {"wall_s": w, "processor_s": p} for stage, (w, p) in clock.seconds.items()},
        "times_real_time": footage_s / sum(wall for wall, _ in whole),
        "times_real_time_by_processor": footage_s / sum(processor for _, processor in whole),
    }


def measure_batch(clips: list[Path], model: str, links: int, workers: int, kill: bool) -> dict[str, Any]:
    """One `lipsync read` over many links, with its memory, children included, as it goes."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder, "clips"), Path(folder, "out")
        inputs.mkdir()
        for number in range(links):
            (inputs / f"{number:05d}.mp4").symlink_to(clips[number % len(clips)].resolve())
        options = ["--out", str(out), "--model", model, "--device", "cpu", "--workers", str(workers)]
        command = [sys.executable, "-m", "lipsync_cli", "read", str(inputs), *options, "--quiet"]
        started, spent = time.perf_counter(), _children_s()
        first = _watch(command, out, links // 2) if kill else []
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.read.json")}
        memory = _watch([*command, "--resume"], out, None)
        wall_s, processor_s = time.perf_counter() - started, _children_s() - spent
        written = {path.name: path.stat().st_mtime_ns for path in out.glob("*.read.json")}
        records = [json.loads((out / name).read_text()) for name in sorted(written)]
    assert sorted(written) == [f"{number:05d}.read.json" for number in range(links)], "records are lost"
    assert all(written[name] == time_ns for name, time_ns in before.items()), "records were written twice"
    footage_s = sum(record["duration_s"] for record in records)
    return {
        "links": links,
        "records": len(records),
        "status": dict(Counter(record["status"] for record in records)),
        "killed_after_records": len(before) if kill else None,
        "wall_s": wall_s,
        "processor_s": processor_s if not kill else None,  # workers that outlive their parent are nobody's
        "clips_per_s": links / wall_s,
        "times_real_time": footage_s / wall_s,
        "times_real_time_by_processor": footage_s / processor_s if not kill else None,
        "memory_mb_of_the_killed_run": _over_time(first),
        "memory_mb": _over_time(memory),
    }


def _watch(command: list[str], out: Path, kill_at: int | None) -> list[float]:
    """Run a batch to its end, or to its death at so many records: its memory in MB, every half second."""
    memory = []
    run = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": str(CORES)}, stderr=subprocess.DEVNULL
    )
    while run.poll() is None:
        time.sleep(0.5)
        memory.append(_memory_mb(run.pid))
        if kill_at is not None and out.is_dir() and len(list(out.glob("*.read.json"))) >= kill_at:
            run.send_signal(signal.SIGKILL)
            run.wait()
    return memory[:-1]


def _over_time(memory: list[float]) -> list[int]:
    """At a tenth, a quarter, the half, three quarters and the end of a run, and its peak."""
    at = [memory[int(part * (len(memory) - 1))] for part in (0.1, 0.25, 0.5, 0.75, 1)] if memory else []
    return [round(used) for used in [*at, *sorted(memory)[-1:]]]


def _children_s() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


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
    parser.add_argument("--kill", action="store_true", help="end the batch half way, and resume it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    clips = sorted(arguments.clips.rglob("*.mp4")) if arguments.clips else [EXAMPLE]
    measured = {
        "stages": measure_stages(clips, arguments.model),
        "batch": measure_batch(clips, arguments.model, arguments.links, arguments.workers, arguments.kill),
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
