"""What becomes of a job in states in which a small cluster cannot be put: no SLURM is needed."""

from dataclasses import replace

import pytest

from nnunetv2_unet3plus.benchmarking.executors.job import Job
from nnunetv2_unet3plus.benchmarking.executors.progress import Progress
from nnunetv2_unet3plus.benchmarking.executors.slurm import queue
from nnunetv2_unet3plus.benchmarking.executors.slurm.queue import Entry
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import End, Files, Record
from nnunetv2_unet3plus.benchmarking.executors.slurm.submit import output
from nnunetv2_unet3plus.benchmarking.executors.slurm.watch import Watch

JOB = Job("fold 0", ("train",))
RECORD = Record(1, "cafe", "12")
LOOKS = 5  # more than a job without a word is given


class Submitted:
    """Files as an earlier run has left them."""

    def __init__(self, logs, record=RECORD):
        self.files = Files.of(JOB, logs)
        self.files.folder.mkdir()
        self.files.write(record)
        (self.files.folder / "12_submitted.pkl").touch()
        self.watch = Watch(JOB, logs, {}, Progress([JOB]))

    def follow(self, state=None, reason="None"):
        queue = {} if state is None else {"fold_0-cafe": Entry("12", state, reason)}
        self.watch.find(queue)
        for _ in range(LOOKS):
            if self.watch.submitted:
                self.watch.look(queue)
        return self.watch.outcome


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch):
    monkeypatch.setattr(queue, "accounted_state", lambda job_id: None)


@pytest.mark.parametrize("state", ["COMPLETED", "TIMEOUT", None])
def test_a_command_that_has_succeeded_is_a_success_whatever_became_of_its_surroundings(tmp_path, state):
    submitted = Submitted(tmp_path)
    submitted.files.write_end("cafe", End(0, 200))
    outcome = submitted.follow(state)
    assert (outcome.succeeded, outcome.attempts, outcome.reason) == (True, 1, "")
    assert submitted.files.read() is None


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED"])
def test_a_job_that_goes_on_is_waited_for(tmp_path, state):
    submitted = Submitted(tmp_path)
    submitted.files.write_end("cafe", End(143, 200))  # of a run before SLURM requeued the job
    assert submitted.follow(state) is None
    assert submitted.watch.submitted
    assert submitted.files.read() == RECORD


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL", "DEADLINE"])
@pytest.mark.parametrize("end", [None, End(-15, 1), End(143, 1)])
def test_what_slurm_has_ended_is_tried_once_more_and_has_slurms_reason(tmp_path, state, end):
    submitted = Submitted(tmp_path)
    if end:
        submitted.files.write_end("cafe", end)
    assert submitted.follow(state) is None
    assert not submitted.watch.submitted  # waits to be
    second = tmp_path / "second"
    second.mkdir()
    submitted = Submitted(second, replace(RECORD, attempt=2))
    outcome = submitted.follow(state)
    assert (outcome.succeeded, outcome.attempts, outcome.reason) == (False, 2, state)


@pytest.mark.parametrize("end", [None, End(-15, 1), End(1, 1)])
def test_what_the_user_has_cancelled_is_not_tried_again(tmp_path, end):
    submitted = Submitted(tmp_path)
    if end:
        submitted.files.write_end("cafe", end)
    outcome = submitted.follow("CANCELLED")
    assert (outcome.succeeded, outcome.attempts, outcome.reason) == (False, 1, "CANCELLED")


@pytest.mark.parametrize("state", ["FAILED", None])
def test_an_exit_code_is_taken_from_the_command(tmp_path, state):
    submitted = Submitted(tmp_path)
    submitted.files.write_end("cafe", End(2, 1))
    (tmp_path / "fold_0.log").write_text("no fold 7\n")
    assert submitted.follow(state).reason == "exit code 2: no fold 7"


def test_a_job_too_old_for_the_queue_is_looked_up_in_the_accounts(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "accounted_state", {"12": "CANCELLED"}.get)
    submitted = Submitted(tmp_path)
    submitted.files.write_end("cafe", End(-15, 1))
    assert submitted.follow().reason == "CANCELLED"


def test_a_job_that_could_not_begin_has_the_words_of_its_shell_as_reason(tmp_path):
    submitted = Submitted(tmp_path, replace(RECORD, attempt=2))
    output(submitted.files.folder, "12").write_text("/gone/bin/python: No such file or directory\n")
    reason = "SLURM job 12 ended before its command did: /gone/bin/python: No such file or directory"
    assert submitted.follow("FAILED").reason == reason


def test_a_job_that_is_gone_without_a_word_is_given_time_and_counts_as_dead(tmp_path):
    submitted = Submitted(tmp_path, replace(RECORD, attempt=2))
    submitted.watch.find({})
    submitted.watch.look({})
    assert submitted.watch.outcome is None
    submitted.files.write_end("cafe", End(0, 1))  # a network's file system has shown it late
    assert submitted.follow().succeeded
    submitted.files.write(RECORD)


def test_only_a_new_state_is_told(tmp_path, capsys):
    submitted = Submitted(tmp_path)
    submitted.follow("PENDING", "Priority")
    submitted.follow("PENDING", "Resources")
    submitted.follow("PENDING", "PartitionTimeLimit")
    submitted.follow("RUNNING")
    lines = [line for line in capsys.readouterr().out.splitlines() if "attached" not in line]
    assert lines == [
        "[1/1] fold 0: SLURM job 12 is pending",
        "[1/1] fold 0: SLURM job 12 is pending (PartitionTimeLimit)",
        "[1/1] fold 0: SLURM job 12 is running",
    ]


def test_a_submission_that_was_never_recorded_is_found_by_its_name(tmp_path):
    submitted = Submitted(tmp_path, replace(RECORD, job_id=None))
    submitted.follow("PENDING")
    assert submitted.watch.submitted
    assert submitted.files.read() == RECORD


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, job_id=None)])
def test_a_submission_that_was_interrupted_is_revoked(tmp_path, monkeypatch, record):
    cancelled = []
    monkeypatch.setattr(queue, "cancel", cancelled.append)
    submitted = Submitted(tmp_path, record)
    (submitted.files.folder / "12_submitted.pkl").unlink()
    submitted.watch.find({"fold_0-cafe": Entry("12", "PENDING", "None")})
    assert not submitted.watch.submitted
    assert submitted.files.is_revoked("cafe")
    assert cancelled == ["fold_0-cafe"]
