"""What can be known of `SlurmExecutor` without a SLURM."""

import sys

import pytest

from nnunetv2_unet3plus.benchmarking.executors.job import Job
from nnunetv2_unet3plus.benchmarking.executors.slurm import SlurmExecutor, watch
from nnunetv2_unet3plus.benchmarking.executors.slurm.options import parameters_of
from nnunetv2_unet3plus.benchmarking.executors.slurm.queue import one_line
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import End
from nnunetv2_unet3plus.benchmarking.executors.slurm.submit import RefusedError
from nnunetv2_unet3plus.errors import UserError

COMMANDS = ("sbatch", "squeue", "srun", "scancel")


@pytest.fixture(autouse=True)
def silent_slurm(tmp_path, monkeypatch):
    """SLURM's commands, which do nothing and say nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize("name", COMMANDS[:3])
def test_without_slurm(silent_slurm, name):
    (silent_slurm / name).unlink()
    with pytest.raises(UserError, match=f"--executor slurm needs {name}, .*use --executor local"):
        SlurmExecutor({})


def test_without_submitit(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'nnunetv2-unet3plus\[benchmark\]'"):
        SlurmExecutor({})


def test_options_go_to_submitit_by_its_own_names_or_shorter():
    options = {
        "slurm_partition": "gpu",
        "qos": "long",
        "slurm_time": "2-12",
        "cpus_per_task": "12",
        "mem_gb": "1.5",
        "gpus_per_node": "a100:1",
        "exclusive": "true",
        "setup": "module load cuda",
        "slurm_additional_parameters": '{"reservation": "night"}',
    }
    assert parameters_of(options) == {
        "partition": "gpu",
        "qos": "long",
        "time": "2-12",
        "cpus_per_task": 12,
        "mem": "1536M",
        "gpus_per_node": "a100:1",
        "exclusive": True,
        "setup": ["module load cuda"],
        "additional_parameters": {"reservation": "night"},
    }
    assert parameters_of({"timeout_min": "90"}) == {"time": 90}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("partitoin", "gpu", "partitoin is unknown"),
        ("slurm_partitoin", "gpu", "slurm_partitoin is unknown"),
        ("reservation", "night", 'additional_parameters=\'{"reservation": "night"}\''),
        ("cpus_per_task", "many", "cpus_per_task must be a whole number"),
        ("cpus_per_task", "0", "cpus_per_task must be a whole number"),
        ("mem_gb", "64G", "mem_gb must be a number"),
        ("slurm_time", "two days", "slurm_time must be minutes"),
        ("timeout_min", "1:30", "timeout_min must be minutes"),
        ("slurm_additional_parameters", "reservation=night", "as JSON"),
        ("slurm_additional_parameters", "{reservation}", "as JSON"),
        ("partition", "", "partition must be given"),
        ("nodes", "2", "one process on one node"),
        ("slurm_job_name", "mine", "leave slurm_job_name out"),
    ],
)
def test_a_wrong_option_is_named(key, value, words):
    with pytest.raises(UserError) as error:
        SlurmExecutor({key: value})
    assert str(error.value).startswith(f"--slurm {key}={value}: ")
    assert words in str(error.value)


def run_on_a_cluster_that_refuses(monkeypatch, logs, refusals):
    """Three jobs that end as soon as they are submitted, on a cluster that refuses the n-th submissions given."""
    count = iter(range(100))

    def submit(name, folder, parameters, function, command, attempt, token, files):
        number = next(count)
        if number in refusals:
            raise RefusedError("SLURM refuses the job: too many")
        files.write_end(token, End(0, 1))
        return str(number)

    monkeypatch.setattr(watch, "submit", submit)
    return SlurmExecutor({}, poll=0).run([Job(f"job {n}", ("train",)) for n in range(3)], logs)


def test_a_cluster_that_takes_so_many_jobs_at_a_time_is_offered_the_rest_later(monkeypatch, tmp_path, capsys):
    outcomes = run_on_a_cluster_that_refuses(monkeypatch, tmp_path, {1, 3})
    assert [(o.job.name, o.succeeded, o.attempts) for o in outcomes] == [(f"job {n}", True, 1) for n in range(3)]
    assert capsys.readouterr().out.count("too many; the jobs left are offered again while others run") == 1


def test_a_refusal_with_nothing_to_wait_for_ends_the_run_and_leaves_no_record(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="too many"):
        run_on_a_cluster_that_refuses(monkeypatch, tmp_path, {0})
    assert list(tmp_path.glob("slurm/*.json")) == []


# As the controller is restarted: the first answers are those given, then there are no jobs
SQUEUE = """#!/bin/sh
if [ -e "{0}/$(cat {0}/count)" ]; then
    echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
    code=1
fi
echo $(($(cat {0}/count) + 1)) > {0}/count
exit $code
"""


@pytest.fixture
def squeue_fails(silent_slurm, monkeypatch):
    """Makes the n-th calls of squeue fail."""

    def fail(*numbers):
        monkeypatch.setenv("PATH", f"{silent_slurm}:/usr/bin:/bin")
        (silent_slurm / "squeue").write_text(SQUEUE.format(silent_slurm))
        (silent_slurm / "count").write_text("0")
        for number in numbers:
            (silent_slurm / str(number)).touch()

    return fail


def test_a_slurm_that_does_not_answer_at_first_is_the_users_error(monkeypatch, tmp_path, squeue_fails):
    squeue_fails(0)
    with pytest.raises(UserError, match=r"SLURM does not answer: .* \(connect failure\); .*--executor local"):
        run_on_a_cluster_that_refuses(monkeypatch, tmp_path, {})


def test_a_slurm_that_does_not_answer_later_is_waited_for(monkeypatch, tmp_path, capsys, squeue_fails):
    squeue_fails(1, 2, 3)
    outcomes = run_on_a_cluster_that_refuses(monkeypatch, tmp_path, {})
    assert all(outcome.succeeded for outcome in outcomes)
    assert capsys.readouterr().out.count("SLURM does not answer") == 1


def test_slurms_words_become_one_line():
    words = "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid.\n\n"
    assert one_line(words) == "invalid partition specified: nope; Batch job submission failed: Invalid"
