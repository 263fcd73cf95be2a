import os
import re
import signal
import subprocess
import sys

import pytest

from nnunetv2_unet3plus.benchmarking.executors.job import Job
from nnunetv2_unet3plus.benchmarking.executors.local import LocalExecutor
from nnunetv2_unet3plus.benchmarking.executors.slurm.record import Files, Record
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.executors.processes import ROOT, alive, lines_of, python, wait_until
from tests.signals import default_signals


def test_outcomes_come_in_the_order_given_and_a_failure_ends_no_other(tmp_path):
    jobs = [
        python("slow one", "import time; time.sleep(0.5); print('done')"),
        python("fails", "raise ValueError('no such thing')"),
        python("quick one", "pass"),
    ]
    outcomes = LocalExecutor(2).run(jobs, tmp_path)
    assert [o.job for o in outcomes] == jobs
    assert [o.succeeded for o in outcomes] == [True, False, True]
    assert [o.attempts for o in outcomes] == [1, 2, 1]
    assert [o.reason for o in outcomes] == ["", "exit code 1: ValueError: no such thing", ""]
    assert outcomes[0].log == tmp_path / "slow_one.log"
    assert "done" in lines_of(outcomes[0].log)


def test_a_job_that_dies_once_is_begun_again_and_both_attempts_are_in_its_log(tmp_path):
    code = "import os, sys; f = sys.argv[1]; print('here'); new = not os.path.exists(f); open(f, 'w'); sys.exit(new)"
    (outcome,) = LocalExecutor(1).run([python("once", code, tmp_path / "mark")], tmp_path / "logs")
    assert (outcome.succeeded, outcome.attempts, outcome.reason) == (True, 2, "")
    log = lines_of(outcome.log)
    assert log.count("here") == 2
    assert [line[:13] for line in log if line.startswith("===")] == ["=== attempt 1", "=== attempt 2"]


def test_the_users_error_is_not_tried_again(tmp_path):
    job = python("wrong", "import sys; print('unet3plus: error: no fold 7'); sys.exit(2)")
    (outcome,) = LocalExecutor(1).run([job], tmp_path)
    assert (outcome.succeeded, outcome.attempts) == (False, 1)
    assert outcome.reason == "exit code 2: unet3plus: error: no fold 7"


def test_a_command_that_does_not_exist_is_a_failure(tmp_path):
    (outcome,) = LocalExecutor(1).run([Job("absent", ("/no/such/program",))], tmp_path)
    assert outcome.reason == "exit code 127: /no/such/program: No such file or directory"


@pytest.mark.parametrize(
    ("name", "reason"), [("SIGKILL", "killed by SIGKILL (out of memory?)"), ("SIGSEGV", "killed by SIGSEGV")]
)
def test_a_signal_is_named(tmp_path, name, reason):
    code = "import os, signal, sys; print('epoch 3', flush=True); os.kill(os.getpid(), getattr(signal, sys.argv[1]))"
    (outcome,) = LocalExecutor(1).run([python("killed", code, name)], tmp_path)
    assert outcome.reason == reason
    assert outcome.attempts == 2


def test_a_killed_launcher_is_a_killed_job_and_leaves_nothing_running(tmp_path):
    code = "import os, signal, sys, time; print(os.getpid(), file=open(sys.argv[1], 'a')); os.kill(os.getppid(), 9)"
    (outcome,) = LocalExecutor(1).run([python("launcher", f"{code}; time.sleep(60)", tmp_path / "pids")], tmp_path)
    assert outcome.reason == "killed by SIGKILL (out of memory?)"
    pids = lines_of(tmp_path / "pids")
    assert len(pids) == 2
    wait_until(lambda: not any(map(alive, pids)))


def test_workers_that_a_job_leaves_behind_are_ended(tmp_path):
    worker = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    code = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-S', '-c', {worker!r}, sys.argv[1]])\n"
        "while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read(): time.sleep(0.01)\n"
    )
    (outcome,) = LocalExecutor(1).run([python("leaves", code, tmp_path / "pid")], tmp_path)
    assert outcome.succeeded
    wait_until(lambda: not alive((tmp_path / "pid").read_text()))


# A parent with two jobs, one of which has a child of its own; each writes its process id
PARENT = """
import sys
from pathlib import Path
from nnunetv2_unet3plus.benchmarking.executors.job import Job
from nnunetv2_unet3plus.benchmarking.executors.local import LocalExecutor
folder = Path(sys.argv[1])
worker = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
family = "import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', sys.argv[3], sys.argv[1]]); " \
         "sys.argv[1] = sys.argv[2]; exec(sys.argv[3])"
jobs = [
    Job("single", (sys.executable, "-S", "-c", worker, f"{folder}/single.pid")),
    Job("family", (sys.executable, "-S", "-c", family, f"{folder}/child.pid", f"{folder}/parent.pid", worker)),
]
LocalExecutor(2).run(jobs, folder / "logs")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_job_outlives_the_command(tmp_path, number):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT, tmp_path]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    parent = subprocess.Popen(command, env=env, preexec_fn=default_signals, **silent)
    files = [tmp_path / f"{name}.pid" for name in ("single", "child", "parent")]
    try:
        wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        pids = [file.read_text() for file in files]
        assert all(map(alive, pids))
    finally:
        parent.send_signal(number)
        parent.wait(10)
    wait_until(lambda: not any(map(alive, pids)), seconds=5)


def test_the_launcher_imports_nothing_slow():
    code = "import sys, nnunetv2_unet3plus.benchmarking.executors.launch; print({'torch', 'numpy'} & {*sys.modules})"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == "set()\n"


# Writes which GPU it sees, when it begins and when it ends; the first wait for as many to begin as may run at a time
SPAN = """
import os, sys, time
folder, slots = sys.argv[1], int(sys.argv[2])
begin = time.monotonic()
open(f"{folder}/{os.getpid()}.begun", "w")
while sum(name.endswith(".begun") for name in os.listdir(folder)) < slots:
    time.sleep(0.01)
time.sleep(0.1)
print(os.environ.get("CUDA_VISIBLE_DEVICES"), begin, time.monotonic(), file=open(f"{folder}/spans", "a"))
"""


def spans(folder, slots, gpus, jobs):
    LocalExecutor(slots, gpus).run([python(f"job {n}", SPAN, folder, slots) for n in range(jobs)], folder / "logs")
    lines = [line.split() for line in lines_of(folder / "spans")]
    assert len(lines) == jobs
    return [(gpu, float(begin), float(end)) for gpu, begin, end in lines]


def most_at_once(spans):
    return max(sum(begin <= moment < end for _, begin, end in spans) for _, moment, _ in spans)


def test_no_two_jobs_share_a_gpu(tmp_path):
    found = spans(tmp_path, slots=2, gpus=["2", "GPU-8f6d"], jobs=5)
    assert most_at_once(found) == 2
    for gpu in ("2", "GPU-8f6d"):
        assert most_at_once([span for span in found if span[0] == gpu]) == 1


def test_more_slots_than_gpus_are_dealt_evenly(tmp_path):
    found = spans(tmp_path, slots=4, gpus=["0", "1"], jobs=8)
    assert most_at_once(found) == 4
    for gpu in ("0", "1"):
        assert most_at_once([span for span in found if span[0] == gpu]) == 2


def test_without_gpus_the_environment_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert [gpu for gpu, _, _ in spans(tmp_path, slots=1, gpus=None, jobs=1)] == ["7"]


def test_the_terminal_shows_one_line_an_event(tmp_path, capfd):
    jobs = [python("good", "print('much text')"), python("bad", "import sys; print('much text'); sys.exit('broken')")]
    LocalExecutor(1).run(jobs, tmp_path)
    output, errors = capfd.readouterr()
    assert errors == ""
    log = tmp_path / "bad.log"
    assert re.sub(r"\d+:\d\d", "TIME", output).splitlines() == [
        "[1/2] good: started",
        "[1/2] good: finished in TIME; 1 left",
        "[2/2] bad: started",
        f"[2/2] bad: died (exit code 1: broken; log: {log}), trying once more",
        "[2/2] bad: started",
        f"[2/2] bad: failed (exit code 1: broken; log: {log}); 0 left",
    ]


def test_two_jobs_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two jobs of one name"):
        LocalExecutor(1).run([python("a b", ""), python("a_b", "")], tmp_path)


def test_a_job_that_slurm_may_be_at_is_refused(tmp_path):
    job = python("fold 0", "pass")
    files = Files.of(job, tmp_path)
    files.folder.mkdir()
    files.write(Record(1, job_id="31"))
    with pytest.raises(UserError, match=r"fold 0 .* job 31; .*--executor slurm.* scancel 31 and delete .*fold_0\.json"):
        LocalExecutor(1).run([job], tmp_path)
    files.record.unlink()
    assert LocalExecutor(1).run([job], tmp_path)[0].succeeded
