"""Signals of processes that tests start."""

import signal


def default_signals():
    """For `preexec_fn`: what was started in the background, or by nohup, ignores these, and so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
