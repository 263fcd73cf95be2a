"""A folder that a command fills: new, or begun by the same command and not finished."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_unet3plus.conversion.target import locked
from nnunetv2_unet3plus.errors import UserError, explain

_MARKER, _STAGING = ".unfinished", ".staging"


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Holds a folder while it is filled and gives the staging folder in it.

    A command that was stopped is finished by running it again, which writes everything anew.

    Raises:
        UserError: If the folder holds other files, cannot be written, or another command is writing it.
    """
    existed = folder.exists()
    try:
        if existed and any(folder.iterdir()) and not (folder / _MARKER).exists():
            raise UserError(f"{folder} holds files already; choose an empty folder with --output")
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            (folder / _MARKER).touch()
            shutil.rmtree(folder / _STAGING, ignore_errors=True)
            (folder / _STAGING).mkdir()
            try:
                yield folder / _STAGING
            except BaseException:
                _retreat(folder, existed)
                raise
            shutil.rmtree(folder / _STAGING)
            (folder / _MARKER).unlink()
    except OSError as error:
        raise explain(error) from error


def _retreat(folder: Path, existed: bool) -> None:
    """Leaves finished files for the next run, and nothing if there are none."""
    shutil.rmtree(folder / _STAGING, ignore_errors=True)
    if any(path.name != _MARKER for path in folder.iterdir()):
        return
    (folder / _MARKER).unlink(missing_ok=True)
    if not existed:
        folder.rmdir()
