"""Work ahead of the reader: decoding goes on in a thread while networks run, bounded so that memory stays flat."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def read_ahead(items: Iterable[Item], size: int, on_stop: Callable[[], None] | None = None) -> Iterator[Item]:
    """The same items in the same order, up to `size` of them made before they are asked for.

    An exception of the source is raised here, after the items before it.  A reader that stops early stops the source
    at its next item, for which this waits.  on_stop: called before that, for a source that can stop sooner.
    """
    queue: Queue = Queue(size)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:  # handed over, not swallowed
            put((_END, error))

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        if on_stop is not None:
            on_stop()
        while thread.is_alive():
            try:
                queue.get_nowait()
            except Empty:
                thread.join(0.05)
