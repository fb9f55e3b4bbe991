"""The processes that evaluate for `esperc search --workers`.

They are spawned, not forked, since torch's threads do not survive a fork. Each ends with the command,
whatever it is doing and however the command ends: a pipe that only the command holds open tells it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection


@contextmanager
def workers(count: int) -> Iterator[Executor | None]:
    """`count` processes with a thread each; None for one, since this process can do its work."""
    if count == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    ended, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(ended,))
    try:
        with _interrupts_blocked():  # in the workers for good: only the command is interrupted
            wait([pool.submit(os.getpid) for _ in range(count)])
        yield pool
    finally:
        held.close()
        pool.shutdown(cancel_futures=True)
        ended.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """While entered, SIGINT waits; processes that are started meanwhile never see one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(ended: Connection) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, which is when the first point comes
    threading.Thread(target=_end_with, args=(ended,), daemon=True).start()


def _end_with(ended: Connection) -> None:
    ended.poll(None)
    os._exit(0)
