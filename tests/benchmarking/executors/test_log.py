import pytest

from nnunetv2_unet3plus.benchmarking.executors.log import header, last_words, reason
from nnunetv2_unet3plus.benchmarking.executors.progress import clock

TRACEBACK = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise RuntimeError
"""
CUDA = "RuntimeError: CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`.\n"
WORKERS = "RuntimeError: One or more background workers are no longer alive. Exiting.\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("epoch 1\nout of disk\n\n----\n", "out of disk"),
        ("epoch 1\n 10%|#  |\r100%|###|\rno fold 7\n", "no fold 7"),
        (TRACEBACK + CUDA, "RuntimeError: CUDA error: out of memory"),
        (TRACEBACK + "KeyError: 'x'\nException in thread 1:\n" + TRACEBACK + WORKERS, "KeyError: 'x'"),
        (TRACEBACK + WORKERS, WORKERS.strip()),
        (f"{TRACEBACK}OSError: a\n\nDuring handling:\n\n{TRACEBACK}ValueError: b\n", "ValueError: b"),
        (TRACEBACK, "raise RuntimeError"),  # cut off
    ],
)
def test_last_words(tmp_path, text, line):
    log = tmp_path / "log"
    log.write_text(text)
    assert last_words(log) == line


def test_an_earlier_attempt_does_not_count(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(header(1, ["python"]) + b"first\n" + header(2, ["python"]))
    assert reason(1, log) == "exit code 1"
    log.write_bytes(log.read_bytes() + b"second\n")
    assert reason(1, log) == "exit code 1: second"


def test_the_end_of_a_long_log_is_found(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 200_000 + "\nthe end\n")
    assert last_words(log) == "the end"


def test_of_a_users_error_the_last_line_counts(tmp_path):
    log = tmp_path / "log"
    log.write_text(f"{TRACEBACK}OSError: handled\nno fold 7\n")
    assert reason(2, log) == "exit code 2: no fold 7"


@pytest.mark.parametrize("code", [-15, 143])
def test_a_signal_is_told_from_an_exit_code(tmp_path, code):
    assert reason(code, tmp_path / "absent") == "killed by SIGTERM"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (200.4, "3:20"), (3800, "1:03:20")])
def test_clock(seconds, text):
    assert clock(seconds) == text
