"""The same function over many jobs in several processes, of which some may be killed."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.conversion.workers import start_worker
from nnunetv2_unet3plus.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def outcomes(
    function: Callable[[Job], Result], jobs: Sequence[Job], processes: int
) -> Generator[tuple[Job, Result | None], None, None]:
    """Runs `function` on each job and yields job and result as soon as it is done; None if its process was killed.

    With one process everything happens in this one. Otherwise no more jobs than processes are under way at any time.

    Raises:
        UserError: If processes cannot be started, as from a script without `if __name__ == "__main__":`.
    """
    if processes == 1:
        for job in jobs:
            yield job, function(job)
        return
    waiting = deque(jobs)
    while waiting:
        suspects = yield from _until_killed(function, waiting, processes)
        # a pool breaks as a whole: each of those that were under way tells for itself whether it was the one
        for job in suspects:
            if (yield from _until_killed(function, deque([job]), 1)):
                yield job, None


def _until_killed(
    function: Callable[[Job], Result], waiting: deque[Job], processes: int
) -> Generator[tuple[Job, Result], None, list[Job]]:
    """Takes jobs from `waiting` until there are none, or a process is killed; returns those then under way."""
    running: dict[Future[Result], Job] = {}
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of ITK's threads
    with ProcessPoolExecutor(processes, context, initializer=_start) as pool:
        try:
            first = pool.submit(os.getpid)
            while waiting or running:
                while waiting and len(running) < processes:
                    running[pool.submit(function, waiting[0])] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool as error:
            if first.exception():  # not even that: the next pool would end like this one
                raise UserError(
                    "the processes that measure end as they start; see above, or measure in one process"
                ) from error
            return list(running.values())
        except BaseException:  # Ctrl-C: the pool would wait for what is under way
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise
    return []


def _start() -> None:
    start_worker()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the processes are the threads
