"""Jobs on a real SLURM, see `tests/slurm.py`."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from nnunetv2_unet3plus.benchmarking.executors.slurm import SlurmExecutor
from nnunetv2_unet3plus.benchmarking.executors.slurm import job as slurm_job
from nnunetv2_unet3plus.benchmarking.executors.slurm.queue import queue
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import Files, Record
from nnunetv2_unet3plus.benchmarking.executors.slurm.submit import submit
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.executors.processes import ROOT, lines_of, python, wait_until
from tests.signals import default_signals

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slurm_cluster")]
POLL = 0.5
# Says in a file that it has begun, sleeps
NAP = "import sys, time; print('begun', file=open(sys.argv[1], 'a'), flush=True); time.sleep(float(sys.argv[2]))"
COMMAND = """
import json, sys
from pathlib import Path
from nnunetv2_unet3plus.benchmarking.executors.job import Job
from nnunetv2_unet3plus.benchmarking.executors.slurm import SlurmExecutor
logs, options, jobs = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
SlurmExecutor(options, poll=0.5).run([Job(name, tuple(command)) for name, command in jobs], Path(logs))
"""


def run(jobs, logs, **options):
    return SlurmExecutor(options, POLL).run(jobs, logs)


@contextmanager
def command(jobs, logs, **options):
    """The same in a process, which is killed in the end."""
    arguments = [logs, json.dumps(options), json.dumps([[job.name, job.command] for job in jobs])]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=default_signals,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def known(state=None):
    """Names of the jobs that SLURM knows."""
    return {name for name, entry in queue().items() if state in (None, entry.state)}


def slurm_names(job, state=None):
    return [name for name in known(state) if name.startswith(f"{job.slug}-")]


def attempts(outcome):
    return sum(line.startswith("=== attempt") for line in lines_of(outcome.log))


def test_jobs_succeed_in_the_order_given(tmp_path, capsys):
    jobs = [python("slow", "import time; time.sleep(2); print('done')"), python("quick", "print('done')")]
    outcomes = run(jobs, tmp_path)
    assert [o.job for o in outcomes] == jobs
    assert [(o.succeeded, o.attempts, o.reason) for o in outcomes] == [(True, 1, "")] * 2
    assert [lines_of(o.log)[-1] for o in outcomes] == ["done", "done"]
    assert "done" not in capsys.readouterr().out


def test_a_job_that_dies_is_tried_once_more(tmp_path):
    once = "import os, sys; f = sys.argv[1]; new = not os.path.exists(f); open(f, 'w'); sys.exit(new)"
    jobs = [
        python("dies once", once, tmp_path / "mark"),
        python("dies twice", "raise ValueError('no such thing')"),
        python("is wrong", "import sys; print('no fold 7'); sys.exit(2)"),
    ]
    outcomes = run(jobs, tmp_path / "logs")
    assert [(o.succeeded, o.attempts) for o in outcomes] == [(True, 2), (False, 2), (False, 1)]
    assert [o.reason for o in outcomes] == ["", "exit code 1: ValueError: no such thing", "exit code 2: no fold 7"]
    assert [attempts(o) for o in outcomes] == [2, 2, 1]
    # told as often, a second run begins anew
    assert run(jobs[2:], tmp_path / "logs")[0].attempts == 1


@pytest.mark.parametrize("options", [{}, {"additional_parameters": '{"hold": true}'}], ids=["running", "pending"])
def test_a_job_that_is_cancelled_is_reported(tmp_path, options):
    job = python(f"cancelled {len(options)}", NAP, tmp_path / "begun", 60)
    with command([job], tmp_path, **options):
        wait_until(lambda: slurm_names(job, "PENDING" if options else "RUNNING"))
        if not options:
            wait_until((tmp_path / "begun").exists)
        subprocess.run(["scancel", f"--name={slurm_names(job)[0]}"], check=True)
        wait_until(lambda: slurm_names(job, "CANCELLED"))
    (outcome,) = run([job], tmp_path)
    assert (outcome.succeeded, outcome.attempts, outcome.reason) == (False, 1, "CANCELLED")


def test_a_command_that_was_killed_attaches_to_a_running_job(tmp_path, capsys):
    job = python("running", NAP, tmp_path / "begun", 6)
    with command([job], tmp_path):
        wait_until((tmp_path / "begun").exists)
    (outcome,) = run([job], tmp_path)
    assert outcome.succeeded
    assert "attached to SLURM job" in capsys.readouterr().out
    assert lines_of(tmp_path / "begun") == ["begun"]
    assert len(slurm_names(job)) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_a_command_that_was_killed_attaches_to_a_pending_job(tmp_path, recorded):
    job = python(f"pending {recorded}", NAP, tmp_path / "begun", 0)
    with command([job], tmp_path, additional_parameters='{"hold": true}'):
        wait_until(lambda: Files.of(job, tmp_path).read() and Files.of(job, tmp_path).read().job_id)
    (name,) = slurm_names(job, "PENDING")
    if not recorded:  # as if it had been killed between the submission and its record
        files = Files.of(job, tmp_path)
        files.write(Record(1, files.read().token, None))
    with command([job], tmp_path) as process:
        wait_until(lambda: "attached" in process.stdout.readline())
        subprocess.run(["scontrol", "release", queue()[name].job_id], check=True)
        assert process.wait(30) == 0
    assert lines_of(tmp_path / "begun") == ["begun"]
    assert len(slurm_names(job)) == 1


def test_a_job_that_ended_meanwhile_is_taken_as_it_ended(tmp_path):
    jobs = [python("well", NAP, tmp_path / "begun", 2), python("badly", "import sys, time; time.sleep(2); sys.exit(2)")]
    with command(jobs, tmp_path):
        wait_until(lambda: all(slurm_names(job, "RUNNING") for job in jobs))
    wait_until(lambda: not any(slurm_names(job, "RUNNING") + slurm_names(job, "COMPLETING") for job in jobs))
    assert [(o.succeeded, o.reason) for o in run(jobs, tmp_path)] == [(True, ""), (False, "exit code 2")]
    assert lines_of(tmp_path / "begun") == ["begun"]


def test_ctrl_c_leaves_the_jobs_to_slurm_and_says_so(tmp_path):
    job = python("interrupted", NAP, tmp_path / "begun", 6)
    with command([job], tmp_path) as process:
        wait_until((tmp_path / "begun").exists)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10)
    (entry,) = (entry for name, entry in queue().items() if name in slurm_names(job))
    assert entry.state == "RUNNING"
    assert f"SLURM goes on with the jobs {entry.job_id}: the same command attaches to them again" in output
    assert run([job], tmp_path)[0].succeeded
    assert lines_of(tmp_path / "begun") == ["begun"]


def test_a_revoked_submission_does_nothing_when_it_turns_up_late(tmp_path):
    job = python("late", NAP, tmp_path / "begun", 0)
    files, record = Files.of(job, tmp_path), Record(1)
    files.folder.mkdir()
    files.revoke(record.token)
    name = f"late-{record.token}"
    submit(name, files.folder, {}, slurm_job.run, job.command, 1, record.token, files)
    wait_until(lambda: name in known("COMPLETED"))
    assert not (tmp_path / "begun").exists()


def test_a_submission_that_was_killed_half_way_is_made_anew(tmp_path):
    job = python("half", NAP, tmp_path / "begun", 0)
    with command([job], tmp_path, additional_parameters='{"hold": true}'):
        wait_until(lambda: Files.of(job, tmp_path).read() and Files.of(job, tmp_path).read().job_id)
    (old,) = slurm_names(job, "PENDING")
    next(Files.of(job, tmp_path).folder.glob("*_submitted.pkl")).unlink()  # submitit's last step
    assert run([job], tmp_path)[0].succeeded
    assert old in known("CANCELLED")
    assert lines_of(tmp_path / "begun") == ["begun"]


# Like a training: what is complete is not begun again
TRAINING = """
import os, sys, time
begun, complete = sys.argv[1:]
if not os.path.exists(complete):
    print("begun", file=open(begun, "a"), flush=True)
    time.sleep(1)
    open(complete, "w")
"""


def test_whenever_the_command_is_killed_each_job_runs_once(tmp_path):
    jobs = [python(f"job {n}", TRAINING, tmp_path / f"begun {n}", tmp_path / f"complete {n}") for n in range(5)]
    moments = random.Random(0)
    for _ in range(10):
        with command(jobs, tmp_path):
            time.sleep(moments.uniform(0.2, 1.5))
    assert [(o.succeeded, o.attempts) for o in run(jobs, tmp_path)] == [(True, 1)] * 5
    assert [lines_of(tmp_path / f"begun {n}") for n in range(5)] == [["begun"]] * 5


def test_a_job_that_takes_too_long_is_tried_once_more(tmp_path):
    code = "import os, sys, time; f = sys.argv[1]; new = not os.path.exists(f); open(f, 'w'); time.sleep(200 * new)"
    (outcome,) = run([python("too long", code, tmp_path / "mark")], tmp_path / "logs", time="1")
    assert (outcome.succeeded, outcome.attempts) == (True, 2)


def test_the_environment_arrives_but_not_the_choice_of_gpus(tmp_path, monkeypatch):
    variables = {"nnUNet_raw": "/my scans/it's raw", "OMP_NUM_THREADS": "3", "PYTHONPATH": str(ROOT), "OTHER": "1"}
    for name, value in (variables | {"CUDA_VISIBLE_DEVICES": "7"}).items():
        monkeypatch.setenv(name, value)
    job = python("environment", "import json, os; print(json.dumps(dict(os.environ)))")
    (outcome,) = run([job], tmp_path, cpus_per_task="2", mem_gb="0.5", time="5")
    arrived = json.loads(lines_of(outcome.log)[-1])
    assert {name: arrived.get(name) for name in variables} == variables
    assert "CUDA_VISIBLE_DEVICES" not in arrived
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert arrived["SLURM_CPUS_PER_TASK"] == "2"
    described = subprocess.run(
        ["scontrol", "show", "job", arrived["SLURM_JOB_ID"]], capture_output=True, text=True, check=True
    ).stdout
    assert "MinMemoryNode=512M" in described
    assert "TimeLimit=00:05:00" in described
    assert "TresPer" not in described  # no GPU is asked for


def test_the_environment_arrives_where_slurm_is_told_to_export_none(tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("nnUNet_raw", "/raw")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (outcome,) = run([python("exported", "import os; print(os.environ['nnUNet_raw'])")], tmp_path)
    assert lines_of(outcome.log)[-1] == "/raw"


def test_without_a_time_the_partitions_own_limit_holds(tmp_path):
    job = python(
        "unlimited", "import os, subprocess; subprocess.run(['scontrol', 'show', 'job', os.environ['SLURM_JOB_ID']])"
    )
    (outcome,) = run([job], tmp_path)
    assert "TimeLimit=UNLIMITED" in outcome.log.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partition": "nope"}, "invalid partition specified: nope; Batch job submission failed: Invalid partition"),
        ({"gpus_per_node": "1"}, "Invalid generic resource"),
        ({"mem_gb": "100000"}, "Memory specification can not be satisfied"),
        ({"cpus_per_gpu": "many"}, "cpus-per-gpu"),
    ],
)
def test_what_slurm_refuses_is_the_users_error_in_slurms_words(tmp_path, capfd, options, words):
    job = python("refused", "pass")
    with pytest.raises(UserError, match=words) as error:
        run([job], tmp_path, **options)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
    assert run([job], tmp_path)[0].attempts == 1  # nothing of it is left
