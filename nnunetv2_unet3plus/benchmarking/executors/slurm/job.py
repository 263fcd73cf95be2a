"""What a SLURM job does, on its node."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from nnunetv2_unet3plus.benchmarking.executors.log import header
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import End, Files


def run(command: Sequence[str], attempt: int, token: str, files: Files) -> None:
    """Runs a job's command as a process, whose output goes to the job's log, and ends this one with its exit code.

    The process stays in this one's group and session, by which SLURM may know what to end.

    Args:
        command: what to run.
        attempt: which attempt it is, for the log.
        token: of the submission; if it was revoked, nothing is done.
        files: the job's.
    """
    if files.is_revoked(token):
        print(f"submission {token} was revoked: nothing to do")
        return
    files.write_end(token, None)  # of a run before SLURM requeued it
    begin = time.monotonic()
    with files.log.open("ab") as log:
        place = f"SLURM job {os.environ.get('SLURM_JOB_ID')} on {os.environ.get('SLURMD_NODENAME')}"
        log.write(header(attempt, command, place))
        log.flush()
        try:
            code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        except OSError as error:
            log.write(f"{command[0]}: {error.strerror}\n".encode())
            code = 127
    files.write_end(token, End(code, time.monotonic() - begin))
    sys.exit(code if code >= 0 else 128 - code)
