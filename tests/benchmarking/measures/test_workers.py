import os
import signal
import time

import pytest

from nnunetv2_unet3plus.benchmarking.measures.workers import outcomes

# functions that other processes find by name


def double(job):
    return 2 * job


def double_unless_negative(job):
    if job < 0:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    time.sleep(0.02)
    return 2 * job


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


def test_stopping_early_leaves_no_process():
    results = outcomes(double, range(100), 2)
    next(results)
    results.close()
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_through(processes):
    with pytest.raises(LookupError):
        list(outcomes(fail, range(3), processes))
