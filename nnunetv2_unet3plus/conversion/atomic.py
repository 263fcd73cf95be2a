"""Files that are either complete or not there.

A file is written under another name in a staging folder of the same file system, then moved into its place, which
the operating system does in one step.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from nnunetv2_unet3plus.errors import explain

Write = Callable[[BinaryIO], None]


def stage(path: Path, staging: Path, write: Write) -> Path:
    """Writes what is to become `path` into the staging folder.

    Args:
        path: The final place.
        staging: The staging folder.
        write: Writes the content to the stream it is given.

    Returns:
        The staged file, safely on disk, to be moved by `publish`.

    Raises:
        UserError: If the disk is full, or the file cannot be written for another reason; nothing is left behind.
    """
    # The process id keeps two processes from ever writing to one file.
    staged = staging / f"{path.name}.{os.getpid()}"
    try:
        with staged.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException as error:
        staged.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain(error, path) from error
        raise
    return staged


def publish(staged: Path, path: Path) -> None:
    """Moves a staged file into its place.

    Raises:
        UserError: If it cannot be moved.
    """
    try:
        staged.replace(path)
    except OSError as error:
        raise explain(error, path) from error


def write_text(path: Path, staging: Path, text: str) -> None:
    """Writes a text file atomically.

    Raises:
        UserError: If the file cannot be written.
    """
    publish(stage(path, staging, lambda stream: _write_bytes(stream, text.encode())), path)


def _write_bytes(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
