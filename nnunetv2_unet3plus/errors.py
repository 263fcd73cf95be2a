"""The errors a user is meant to see."""

import errno
from pathlib import Path

_HINTS = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some of the quota, then run the same command again",
    errno.EACCES: "check the permissions or, if it is the output, choose another folder with --output",
    errno.EPERM: "check the permissions or, if it is the output, choose another folder with --output",
    errno.EROFS: "choose another folder with --output",
    errno.ENOTDIR: "a file stands where a folder is needed: move it or choose another folder with --output",
    errno.EEXIST: "a file stands where a folder is needed: move it or choose another folder with --output",
}


class UserError(Exception):
    """What is wrong with the user's input and what to do about it, in one line.

    The command line prints the line without a traceback and ends with exit code 2.
    """


class ConfigurationError(UserError, ValueError):
    """A network that cannot be built or trained as plans, dataset and trainer ask for it.

    Our trainers print the line and end with exit code 2; who builds networks in Python gets a ValueError.
    """


def explain(error: OSError, path: Path | None = None) -> UserError:
    """Puts an error of the operating system into one line.

    Args:
        error: The error.
        path: The file to name; the one the error itself names if left out.
    """
    name = path if path is not None else error.filename
    reason = error.strerror or str(error)
    line = f"{name}: {reason}" if name is not None else reason
    hint = _HINTS.get(error.errno or 0)
    return UserError(f"{line}; {hint}" if hint else line)
