"""Jobs on a SLURM cluster."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_unet3plus.benchmarking.executors.job import Job, Outcome, check_names
from nnunetv2_unet3plus.benchmarking.executors.progress import Progress
from nnunetv2_unet3plus.benchmarking.executors.slurm import queue as slurm_queue
from nnunetv2_unet3plus.benchmarking.executors.slurm.options import parameters_of
from nnunetv2_unet3plus.benchmarking.executors.slurm.queue import Entry, NoAnswerError
from nnunetv2_unet3plus.benchmarking.executors.slurm.submit import RefusedError
from nnunetv2_unet3plus.benchmarking.executors.slurm.watch import Watch
from nnunetv2_unet3plus.errors import UserError

_POLL = 20.0  # seconds between two looks at the queue; a look is one squeue for all jobs


class SlurmExecutor:
    """Hands every job to SLURM, through submitit, and waits for it.

    Jobs outlive this process: it may be killed, and attaches to them when it is started again with the same jobs and
    folder of logs. Which GPU a job sees is SLURM's business.
    """

    def __init__(self, options: Mapping[str, str], poll: float = _POLL) -> None:
        """Checks the options.

        Args:
            options: see `options`.
            poll: seconds between two looks at SLURM's queue.

        Raises:
            UserError: If there is no SLURM, submitit is not installed or an option is wrong.
        """
        for command in ("sbatch", "squeue", "srun"):
            if shutil.which(command) is None:
                raise UserError(f"--executor slurm needs {command}, which is not found here; use --executor local")
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise UserError("--executor slurm needs submitit: pip install 'nnunetv2-unet3plus[benchmark]'") from error
        self._parameters = parameters_of(options)
        self._poll = poll
        self._said: set[str] = set()

    def run(self, jobs: Sequence[Job], logs: Path) -> list[Outcome]:
        """Runs jobs to their ends, see `Executor`.

        Raises:
            UserError: If SLURM does not answer at first, or refuses a job while none of the others is left to wait for.
        """
        check_names(jobs)
        progress = Progress(jobs)
        watches = [Watch(job, logs, self._parameters, progress) for job in jobs]
        try:
            self._follow(watches)
        except KeyboardInterrupt:
            _say_what_goes_on(watches)
            raise
        return [watch.outcome for watch in watches if watch.outcome]

    def _follow(self, watches: Sequence[Watch]) -> None:
        try:
            queue = slurm_queue.queue()
        except NoAnswerError as error:
            raise UserError(f"SLURM does not answer: {error}; try again later or use --executor local") from error
        for watch in watches:
            watch.find(queue)
        while True:
            for watch in watches:
                if watch.submitted:
                    watch.look(queue)
            self._submit(watches)
            if all(watch.outcome for watch in watches):
                return
            time.sleep(self._poll)
            queue = self._next_queue()

    def _submit(self, watches: Sequence[Watch]) -> None:
        """Submits what is not; a cluster that takes so many jobs at a time is offered the rest again later."""
        for watch in watches:
            if watch.submitted or watch.outcome:
                continue
            try:
                watch.submit()
            except RefusedError as error:
                if not any(other.submitted for other in watches):
                    raise
                self._say_once(f"{error}; the jobs left are offered again while others run")
                return

    def _next_queue(self) -> dict[str, Entry]:
        """The queue; a SLURM that does not answer, as in its maintenance, is asked until it does."""
        while True:
            try:
                return slurm_queue.queue()
            except NoAnswerError as error:
                self._say_once(f"SLURM does not answer: {error}; it is asked again until it does")
                time.sleep(self._poll)

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            print(line, flush=True)
        self._said.add(line)


def _say_what_goes_on(watches: Sequence[Watch]) -> None:
    ids = [watch.job_id for watch in watches if watch.submitted and watch.job_id]
    if ids:
        print(
            f"SLURM goes on with the jobs {', '.join(ids)}: the same command attaches to them again, "
            f"scancel {' '.join(ids)} ends them",
            flush=True,
        )
