"""What is on disk about jobs that were handed to SLURM, in `slurm` inside the folder of logs.

A record is written before its submission and names it by a token that is part of the SLURM job's name: a command that
was killed and is started again finds the submission by it. A submission that cannot be found is revoked before the next
one: its SLURM job, should it turn up after all, does nothing (see `job`). So, whatever is killed and when, a job
is not run twice. The files of a submission carry its token, because a network's file system may show a node an older
content of a file it has read before.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.benchmarking.executors.job import Job
from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import UserError


@dataclass(frozen=True)
class Record:
    """A submission.

    Attributes:
        attempt: which attempt at the job it is, from 1.
        token: names the submission.
        job_id: SLURM's, None as long as it is not known.
    """

    attempt: int
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    job_id: str | None = None


@dataclass(frozen=True)
class End:
    """How the command of a SLURM job ended.

    Attributes:
        code: its exit code; -n if signal n has ended it.
        seconds: how long it ran.
    """

    code: int
    seconds: float


@dataclass(frozen=True)
class Files:
    """A job's files.

    Attributes:
        folder: where submitit's files are, too.
        slug: the job's.
    """

    folder: Path
    slug: str

    @classmethod
    def of(cls, job: Job, logs: Path) -> "Files":
        """Those of a job."""
        return cls(logs.resolve() / "slurm", job.slug)

    @property
    def log(self) -> Path:
        """What the job writes."""
        return self.folder.parent / f"{self.slug}.log"

    @property
    def record(self) -> Path:
        """The last submission; there as long as nobody was told how the job ended."""
        return self.folder / f"{self.slug}.json"

    def read(self) -> Record | None:
        """The last submission."""
        content = _read(self.record)
        return None if content is None else Record(**content)

    def write(self, record: Record) -> None:
        """Makes a submission the last one."""
        _write(self.record, asdict(record))

    def read_end(self, token: str) -> End | None:
        """How a submission's command ended; None if it has not, or was killed together with its keeper."""
        content = _read(self._end(token))
        return None if content is None else End(**content)

    def write_end(self, token: str, end: End | None) -> None:
        """Says how a submission's command ended; None if it has just begun."""
        if end is None:
            self._end(token).unlink(missing_ok=True)
        else:
            _write(self._end(token), asdict(end))

    def revoke(self, token: str) -> None:
        """Makes a submission do nothing, if it has not begun."""
        self._revoked(token).touch()

    def is_revoked(self, token: str) -> bool:
        """Whether a submission shall do nothing."""
        return self._revoked(token).exists()

    def forget(self, token: str) -> None:
        """Removes the record and the end."""
        self.record.unlink(missing_ok=True)
        self._end(token).unlink(missing_ok=True)

    def _end(self, token: str) -> Path:
        return self.folder / f"{self.slug}-{token}.end.json"

    def _revoked(self, token: str) -> Path:
        return self.folder / f"{self.slug}-{token}.revoked"


def refuse_submitted(jobs: Sequence[Job], logs: Path) -> None:
    """Raises UserError if SLURM may be at one of the jobs: it would run twice."""
    for job in jobs:
        files = Files.of(job, logs)
        record = files.read()
        if record is not None and record.job_id is not None:
            raise UserError(
                f"{job.name} was handed to SLURM as job {record.job_id}; run the command with --executor slurm, or end "
                f"it with scancel {record.job_id} and delete {files.record}"
            )


def _read(path: Path) -> dict[str, Any] | None:
    """None only where there is no file: one that cannot be read must not pass for none, or the job would run twice."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes the whole file or none of it: its writer may be killed, others may read it meanwhile."""
    write_text(path, path.parent, json.dumps(content))
