"""The same function over many cases in several processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

from nnunetv2_unet3plus.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def results_of(function: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Runs `function` on each job and yields its result as soon as it is done.

    With one process everything happens in this one. On the first error no further job is begun and, once the running
    ones have ended, the error is raised here.

    Raises:
        UserError: If a worker dies; and whatever `function` raises.
    """
    if processes == 1:
        for job in jobs:
            yield function(job)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of ITK's threads
    with ProcessPoolExecutor(processes, context, initializer=start_worker) as pool:
        try:
            for future in as_completed([pool.submit(function, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, probably for lack of memory; run the same command with a smaller -np"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def start_worker() -> None:
    """What a process of a pool does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the main one is killed; a pool's workers would wait for ever and keep their memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
