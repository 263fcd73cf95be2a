"""Jobs on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_unet3plus.benchmarking.executors.job import ATTEMPTS, USER_ERROR, Job, Outcome, check_names
from nnunetv2_unet3plus.benchmarking.executors.log import header, reason
from nnunetv2_unet3plus.benchmarking.executors.progress import Progress
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import refuse_submitted

_LAUNCHER = (sys.executable, "-m", "nnunetv2_unet3plus.benchmarking.executors.launch")
_POLL = 0.1  # seconds


class LocalExecutor:
    """Runs so many jobs at a time.

    No job outlives this process, not even if it is killed: see `launch`.
    """

    def __init__(self, slots: int, gpus: Sequence[str] | None = None) -> None:
        """Sets up where jobs may run.

        Args:
            slots: how many run at a time.
            gpus: ids or UUIDs, one of which each job sees (`CUDA_VISIBLE_DEVICES`); two jobs share one only where
                there are more slots than GPUs. None leaves the choice to the environment.
        """
        self._slots = slots
        self._gpus = gpus

    def run(self, jobs: Sequence[Job], logs: Path) -> list[Outcome]:
        """Runs jobs to their ends, see `Executor`; a second attempt comes after all that wait for their first.

        Raises:
            UserError: If SLURM may be at one of the jobs.
        """
        check_names(jobs)
        refuse_submitted(jobs, logs)
        logs.mkdir(parents=True, exist_ok=True)
        progress = Progress(jobs)
        waiting = deque((job, 1) for job in jobs)
        running: list[_Attempt] = []
        outcomes: dict[str, Outcome] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._slots:
                    job, number = waiting.popleft()
                    running.append(_Attempt(job, number, logs, self._free_gpu(running)))
                    progress.say(job, f"started{running[-1].place and f' on {running[-1].place}'}")
                time.sleep(_POLL)
                for attempt in [attempt for attempt in running if attempt.has_ended()]:
                    running.remove(attempt)
                    outcome = attempt.outcome()
                    if outcome.succeeded or attempt.code == USER_ERROR or attempt.number == ATTEMPTS:
                        outcomes[outcome.job.name] = outcome
                        progress.ended(outcome, attempt.seconds)
                    else:
                        progress.died(outcome.job, outcome.reason, outcome.log)
                        waiting.append((outcome.job, attempt.number + 1))
        finally:
            for attempt in running:
                attempt.kill()
        return [outcomes[job.name] for job in jobs]

    def _free_gpu(self, running: "list[_Attempt]") -> str | None:
        """The GPU with the fewest jobs."""
        if not self._gpus:
            return None
        return min(self._gpus, key=[attempt.gpu for attempt in running].count)


class _Attempt:
    """A job's process and all that it starts."""

    def __init__(self, job: Job, number: int, logs: Path, gpu: str | None) -> None:
        self.job, self.number, self.gpu = job, number, gpu
        self.place = "" if gpu is None else f"GPU {gpu}"
        self.code: int | None = None
        self.seconds = 0.0
        self._log = logs / f"{job.slug}.log"
        self._begun = time.monotonic()
        watch, self._hold = os.pipe()
        with self._log.open("ab") as log:
            log.write(header(number, job.command, self.place))
            log.flush()
            self._process = subprocess.Popen(
                [*_LAUNCHER, *job.command],
                stdin=watch,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ if gpu is None else os.environ | {"CUDA_VISIBLE_DEVICES": gpu},
                start_new_session=True,  # a group of its own, and out of reach of the terminal's Ctrl-C
            )
        os.close(watch)

    def has_ended(self) -> bool:
        """Whether the process is gone; if so, ends what it has left behind."""
        # not reaped before the rest is killed: until then nobody else can be given its process id
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self.kill()
        self.seconds = time.monotonic() - self._begun
        return True

    def kill(self) -> None:
        """Ends the process and all its descendants."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.code = self._process.wait()
        os.close(self._hold)

    def outcome(self) -> Outcome:
        """How it ended, if it is the last one."""
        why = reason(self.code, self._log) if self.code else ""
        return Outcome(self.job, self.code == 0, self.number, self._log, why)
