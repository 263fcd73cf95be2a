"""One job on its way through SLURM."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.benchmarking.executors.job import ATTEMPTS, USER_ERROR, Job, Outcome
from nnunetv2_unet3plus.benchmarking.executors.log import last_words, reason
from nnunetv2_unet3plus.benchmarking.executors.progress import Progress
from nnunetv2_unet3plus.benchmarking.executors.slurm import job as slurm_job
from nnunetv2_unet3plus.benchmarking.executors.slurm import queue as slurm_queue
from nnunetv2_unet3plus.benchmarking.executors.slurm.queue import ENDED, Entry
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import End, Files, Record
from nnunetv2_unet3plus.benchmarking.executors.slurm.submit import RefusedError, is_complete, output, submit

_BY_ITSELF = {"COMPLETED", "FAILED"}  # SLURM's states of a process that has ended without SLURM's doing
_ORDINARY = {"None", "Priority", "Resources"}  # reasons to wait that need not worry anybody
_PATIENCE = 3  # looks at a job that left no word before it counts as dead: a network's file system may lag behind


class Watch:
    """Submits a job, or finds the submission of an earlier run, and follows it to its end.

    Attributes:
        outcome: how the job ended; None until then.
        submitted: whether SLURM has it.
    """

    def __init__(self, job: Job, logs: Path, parameters: Mapping[str, Any], progress: Progress) -> None:
        self.outcome: Outcome | None = None
        self.submitted = False
        self._job, self._parameters, self._progress = job, parameters, progress
        self._log = logs / f"{job.slug}.log"
        self._files = Files.of(job, logs)
        self._files.folder.mkdir(parents=True, exist_ok=True)
        self._attempt = 1
        self._record = Record(0)
        self._said = ""
        self._lost = 0

    @property
    def job_id(self) -> str | None:
        """SLURM's number of the last submission, None where it is not known."""
        return self._record.job_id

    def find(self, queue: Mapping[str, Entry]) -> None:
        """Attaches to what an earlier run has submitted; gives up what that run was killed over."""
        record = self._files.read()
        if record is None:
            return
        self._record, self._attempt = record, record.attempt
        entry = queue.get(self._name)
        job_id = record.job_id or (entry.job_id if entry else None)
        if job_id is not None and is_complete(self._files.folder, job_id):
            self._record = replace(record, job_id=job_id)
            self._files.write(self._record)
            self.submitted = True
            self._progress.say(self._job, f"attached to SLURM job {job_id}")
        elif self._files.read_end(record.token) is not None:
            self.submitted = True
        else:
            self._files.revoke(record.token)
            slurm_queue.cancel(self._name)

    def submit(self) -> None:
        """Hands the job to SLURM.

        Raises:
            RefusedError: If SLURM does not take it.
        """
        self._record = Record(self._attempt)
        self._files.write(self._record)
        arguments = (self._job.command, self._attempt, self._record.token, self._files)
        try:
            job_id = submit(self._name, self._files.folder, self._parameters, slurm_job.run, *arguments)
        except RefusedError:
            self._files.revoke(self._record.token)  # SLURM may have lost its answer only
            self._files.forget(self._record.token)
            raise
        self._record = replace(self._record, job_id=job_id)
        self._files.write(self._record)
        self.submitted, self._said, self._lost = True, "", 0
        self._progress.say(self._job, f"submitted as SLURM job {job_id}")

    def look(self, queue: Mapping[str, Entry]) -> None:
        """Takes note of how the job fares; one that died waits to be submitted again."""
        entry = queue.get(self._name)
        if entry is not None and entry.state not in ENDED:
            if entry.state != "COMPLETING":
                self._say(entry)
            return
        end = self._files.read_end(self._record.token)
        state = entry.state if entry is not None else None
        if end is None and (state is None or state in _BY_ITSELF) and self._lost < _PATIENCE:
            self._lost += 1
            return
        if state is None and self.job_id is not None:
            state = slurm_queue.accounted_state(self.job_id)
        self._close(end, state)

    @property
    def _name(self) -> str:
        return f"{self._job.slug}-{self._record.token}"

    def _say(self, entry: Entry) -> None:
        """Says that the job waits or runs, if that is new."""
        event = f"SLURM job {entry.job_id} is {entry.state.lower()}"
        if entry.reason not in _ORDINARY:
            event += f" ({entry.reason})"
        if event != self._said:
            self._progress.say(self._job, event)
        self._said = event

    def _close(self, end: End | None, state: str | None) -> None:
        """Tells a success, a death and a failure from one another."""
        self._files.forget(self._record.token)
        self.submitted = False
        succeeded = end is not None and end.code == 0
        why = "" if succeeded else self._reason(end, state)
        final = state == "CANCELLED" or (end is not None and end.code == USER_ERROR) or self._attempt == ATTEMPTS
        if succeeded or final:
            self.outcome = Outcome(self._job, succeeded, self._attempt, self._log, why)
            self._progress.ended(self.outcome, end.seconds if end else None)
        else:
            self._progress.died(self._job, why, self._log)
            self._attempt += 1

    def _reason(self, end: End | None, state: str | None) -> str:
        if state is not None and state not in _BY_ITSELF:
            return state
        if end is not None:
            return reason(end.code, self._log)
        words = last_words(output(self._files.folder, str(self.job_id)))
        return f"SLURM job {self.job_id} ended before its command did" + (words and f": {words}")
