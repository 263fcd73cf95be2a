"""A benchmark's jobs, how they end, and who runs them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

USER_ERROR = 2  # the exit code of what only the user can repair: a second attempt would end the same way
ATTEMPTS = 2


@dataclass(frozen=True)
class Job:
    """A command to run as a process.

    Attributes:
        name: for people, and unique among the jobs that are run into the same folder of logs.
        command: the program and its arguments.
    """

    name: str
    command: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The name as part of a file's name."""
        return re.sub(r"[^\w.+-]+", "_", self.name)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        succeeded: whether its last attempt ended with exit code 0.
        attempts: how often it was begun, 1 or 2.
        log: what all attempts have written.
        reason: why the last attempt failed; empty where it succeeded.
    """

    job: Job
    succeeded: bool
    attempts: int
    log: Path
    reason: str = ""


class Executor(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job], logs: Path) -> list[Outcome]:
        """Runs jobs to their ends and says on stdout how they fare.

        A job that dies is begun a second time, unless its exit code is 2: that is the user's error. A job that fails
        for good ends no other.

        Args:
            jobs: what to run, begun in this order.
            logs: folder, made if need be, for `<slug>.log` of each job, to which every attempt appends.

        Returns:
            One outcome a job, in the order of `jobs`.

        Raises:
            UserError: If no job can be run as asked.
            KeyboardInterrupt: After Ctrl-C.
        """
        ...


def check_names(jobs: Sequence[Job]) -> None:
    """Raises ValueError if two jobs would write the same files."""
    slugs = [job.slug for job in jobs]
    if len(set(slugs)) < len(slugs):
        raise ValueError(f"two jobs of one name: {sorted(slugs)}")
