"""Handing a function to SLURM, through submitit."""

import contextlib
import io
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.benchmarking.executors.slurm.queue import one_line
from nnunetv2_unet3plus.errors import UserError

_EXPORTED = ("nnUNet_", "OMP_", "MKL_", "PYTHON")  # what a job needs even on a cluster that exports no variables


class RefusedError(UserError):
    """SLURM does not take a job; says why, in SLURM's words."""


def submit(name: str, folder: Path, parameters: Mapping[str, Any], function: Callable[..., None], *args: Any) -> str:
    """Submits a call of a function.

    Args:
        name: of the SLURM job.
        folder: for submitit's files; seen by all nodes.
        parameters: of submitit's `SlurmExecutor`. Without `time`, the partition's own limit holds.
        function: what to call.
        *args: its arguments.

    Returns:
        SLURM's number of the job.

    Raises:
        RefusedError: If SLURM refuses it.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    executor = submitit.SlurmExecutor(folder)
    # Without srun: as a step of its own the process would, since SLURM 22.05, be bound to one of the job's CPUs.
    # Without a time submitit would ask for five minutes.
    ours = {"job_name": name, "use_srun": False, "stderr_to_stdout": True, "time": None}
    setup = _exports() + parameters.get("setup", [])
    executor.update_parameters(**(ours | dict(parameters) | {"setup": setup}))
    try:
        with _environment_for_sbatch(), contextlib.redirect_stderr(io.StringIO()):
            return executor.submit(function, *args).job_id
    except FailedJobError as error:
        raise RefusedError(f"SLURM refuses the job: {one_line(str(error))}; mend --slurm KEY=VALUE") from error


def output(folder: Path, job_id: str) -> Path:
    """What the SLURM job itself has written, our function's prints included."""
    import submitit

    return submitit.SlurmJob(folder, job_id).paths.stdout


def is_complete(folder: Path, job_id: str) -> bool:
    """Whether a job can begin: submitit lays what to call beside it only after sbatch has accepted it."""
    import submitit

    return submitit.SlurmJob(folder, job_id).paths.submitted_pickle.exists()


def _exports() -> list[str]:
    """Lines of the job's script. sbatch hands all variables on, unless a site or the user has told it not to."""
    return [f"export {k}={shlex.quote(v)}" for k, v in sorted(os.environ.items()) if k.startswith(_EXPORTED)]


@contextlib.contextmanager
def _environment_for_sbatch() -> Iterator[None]:
    """Hides what must not reach the job: this machine's choice of GPUs, and the job in which this process may run."""
    before = dict(os.environ)
    inside = "SLURM_JOB_ID" in before
    for name in before:
        if name == "CUDA_VISIBLE_DEVICES" or (inside and name.startswith("SLURM_") and name != "SLURM_CONF"):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)
