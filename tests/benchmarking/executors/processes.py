"""Jobs of a few lines of Python, and waiting for what other processes do."""

import sys
import time
from pathlib import Path

from nnunetv2_unet3plus.benchmarking.executors.job import Job

ROOT = Path(__file__).resolve().parents[3]


def python(name, code, *arguments):
    return Job(name, (sys.executable, "-S", "-c", code, *map(str, arguments)))


def lines_of(file):
    return file.read_text().splitlines() if file.exists() else []


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
