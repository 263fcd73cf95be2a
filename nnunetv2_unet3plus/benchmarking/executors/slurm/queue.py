"""What SLURM's own commands say."""

import os
import re
import subprocess
from dataclasses import dataclass

ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)


@dataclass(frozen=True)
class Entry:
    """A job that SLURM knows.

    Attributes:
        job_id: SLURM's number of it.
        state: such as PENDING, in SLURM's words.
        reason: why it is pending, in SLURM's words.
    """

    job_id: str
    state: str
    reason: str


class NoAnswerError(Exception):
    """SLURM's controller cannot be asked at present; says why, in SLURM's words."""


def queue() -> dict[str, Entry]:
    """This user's jobs by their names: all that wait or run, and those that ended within the last minutes.

    Raises:
        NoAnswerError: If squeue fails.
    """
    command = ["squeue", f"--user={os.getuid()}", "--states=all", "--noheader", "--format=%A|%T|%r|%j"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise NoAnswerError(one_line(answer.stderr))
    entries = {}
    for line in answer.stdout.splitlines():
        job_id, state, reason, name = line.split("|", 3)
        entries[name] = Entry(job_id, state, reason)
    return entries


def accounted_state(job_id: str) -> str | None:
    """The state in which a job ended, for those too old for `queue`; None where SLURM keeps no accounts."""
    command = ["sacct", "--allocations", "--noheader", "--parsable2", "--format=State", f"--jobs={job_id}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    states = answer.stdout.split()  # "CANCELLED by 1000"
    return states[0] if answer.returncode == 0 and states else None


def cancel(name: str) -> None:
    """Ends this user's jobs of a name, if there are any."""
    command = ["scancel", f"--user={os.getuid()}", f"--name={name}"]
    subprocess.run(command, capture_output=True, check=False)


def one_line(words: str) -> str:
    """What one of SLURM's commands has said on stderr, without the command's name."""
    lines = (re.sub(r"^\w+: (error|fatal): ", "", line).strip().rstrip(".") for line in words.splitlines())
    return "; ".join(filter(None, lines))
