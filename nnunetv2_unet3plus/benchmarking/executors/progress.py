"""The lines that say how a benchmark's jobs fare."""

from collections.abc import Sequence

from nnunetv2_unet3plus.benchmarking.executors.job import Job, Outcome


class Progress:
    """Prints one line an event."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._numbers = {job.name: number for number, job in enumerate(jobs, start=1)}
        self._left = len(jobs)

    def say(self, job: Job, event: str) -> None:
        """Prints what happened to a job."""
        print(f"[{self._numbers[job.name]}/{len(self._numbers)}] {job.name}: {event}", flush=True)

    def ended(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Prints how a job ended for good, and how many are left."""
        self._left -= 1
        took = "" if seconds is None else f" in {clock(seconds)}"
        event = f"finished{took}" if outcome.succeeded else f"failed ({outcome.reason}; log: {outcome.log})"
        self.say(outcome.job, f"{event}; {self._left} left")

    def died(self, job: Job, reason: str, log: object) -> None:
        """Prints that a job will be begun once more."""
        self.say(job, f"died ({reason}; log: {log}), trying once more")


def clock(seconds: float) -> str:
    """Seconds as `3:20` or `1:03:20`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
