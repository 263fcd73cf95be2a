import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from nnunetv2_unet3plus.benchmarking.measures.workers import outcomes

LONG = 120  # seconds

# functions that other processes find by name


def double(job):
    return 2 * job


def double_unless_negative(job):
    if job < 0:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    time.sleep(0.02)
    return 2 * job


def long_unless_zero(job):
    time.sleep(LONG if job else 0)
    return job


def fail(job):
    raise LookupError(job)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_once(processes):
    assert sorted(outcomes(double, range(7), processes)) == [(job, 2 * job) for job in range(7)]
    assert list(outcomes(double, [], processes)) == []


def test_killed_workers_cost_their_own_jobs_only():
    jobs = [0, 1, -2, 3, 4, -5]
    found = dict(outcomes(double_unless_negative, jobs, 2))
    assert found == {job: None if job < 0 else 2 * job for job in jobs}


def test_stopping_early_ends_the_processes_at_once():
    before = multiprocessing.active_children()
    results = outcomes(long_unless_zero, [0, 1, 2, 3], 2)
    assert next(results) == (0, 0)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < LONG / 2
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_through(processes):
    with pytest.raises(LookupError):
        list(outcomes(fail, range(3), processes))


def test_processes_that_cannot_start(tmp_path):
    """Every one of them would run this script from its beginning."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from nnunetv2_unet3plus.benchmarking.measures.workers import outcomes\n"
        "from nnunetv2_unet3plus.errors import UserError\n"
        "try:\n"
        "    list(outcomes(abs, range(1000), 2))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)
    assert run.stdout == "the processes that measure end as they start; see above, or measure in one process\n"
