"""Runs a command that dies with whoever started it: `python -m ...executors.launch PROGRAM ARGUMENT...`.

Standard input is the watch: a pipe into which nothing is ever written and whose other end the starter alone holds. It
closes with the starter, however that dies. The process is meant to lead a group of its own, which it then kills, and
with it the command, that command's own processes and itself.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """Runs the command; its exit code, 128 + n if signal n has ended it."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    try:
        code = subprocess.call(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    return code if code >= 0 else 128 - code


def _end_with_starter() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
