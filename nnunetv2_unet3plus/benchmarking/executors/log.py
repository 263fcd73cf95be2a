"""What a job's log says."""

import re
import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_unet3plus.benchmarking.executors.job import USER_ERROR

_HEADER = "=== attempt"
_TAIL = 2**16  # bytes: enough for a traceback, whatever progress bars have written before it
_TRACEBACK = "Traceback (most recent call last):"
_CONSEQUENCE = "background workers are no longer alive"  # of what nnU-Net says; the error itself stands further up


def header(attempt: int, command: Sequence[str], place: str = "") -> bytes:
    """The line that opens an attempt in the log."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"{_HEADER} {attempt}, {when}{place and f', {place}'}: {shlex.join(command)}\n".encode()


def reason(code: int, log: Path) -> str:
    """Why a process failed, in a line.

    Args:
        code: its exit code; -n, or as a shell has it 128 + n, if signal n has ended it.
        log: what it has written, perhaps after earlier attempts.
    """
    number = -code if code < 0 else code - 128
    if number in {int(s) for s in signal.Signals}:
        memory = " (out of memory?)" if number == signal.SIGKILL else ""
        return f"killed by {signal.Signals(number).name}{memory}"
    line = last_words(log, after_traceback=code != USER_ERROR)
    return f"exit code {code}: {line}" if line else f"exit code {code}"


def last_words(log: Path, after_traceback: bool = True) -> str:
    """The line that says most about an attempt's end: the last error raised, or else the last line with a word.

    Args:
        log: the file; it may be absent. Only what follows its last header counts.
        after_traceback: whether an error raised counts for more than what was written after it.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    attempt = re.split(rf"^{_HEADER}.*\n", text, flags=re.MULTILINE)[-1]
    lines = [line for line in re.split(r"[\r\n]+", attempt) if re.search(r"\w", line)]
    errors = list(filter(None, (_error(lines[i + 1 :]) for i, line in enumerate(lines) if line.endswith(_TRACEBACK))))
    causes = [error for error in errors if _CONSEQUENCE not in error] or errors
    if causes and after_traceback:
        return causes[-1]
    return lines[-1].strip() if lines else ""


def _error(lines: list[str]) -> str | None:
    """The error a traceback ends with: its first line that is not indented."""
    return next((line.strip() for line in lines if not line[0].isspace()), None)
