"""The demo's folder: nnU-Net's three folders inside it, and commands that work there."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_unet3plus.errors import UserError

MARKER = ".unet3plus_demo"

# Small data and short runs: few workers, no compiling that would take longer than the training. And threads that wait
# asleep: those that spin take the cores from nnU-Net's own workers, and a training step takes up to ten times as long.
DEFAULTS = {
    "nnUNet_n_proc_DA": "2",
    "nnUNet_def_n_proc": "2",
    "nnUNet_compile": "f",
    "OMP_WAIT_POLICY": "passive",
}


@dataclass(frozen=True)
class Workspace:
    """A folder that belongs to the demo."""

    root: Path

    @classmethod
    def prepare(cls, root: Path) -> "Workspace":
        """Make the folder, or empty it if an earlier demo made it.

        Raises:
            UserError: If it holds anything that no demo has written.
        """
        root = root.resolve()
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; choose another --output")
        if root.exists() and any(root.iterdir()):
            if not (root / MARKER).exists():
                raise UserError(f"{root} holds files of yours; choose another --output, a new or an empty folder")
            shutil.rmtree(root)
        root.mkdir(parents=True, exist_ok=True)
        (root / MARKER).touch()
        return cls(root)

    @property
    def folders(self) -> dict[str, str]:
        """nnU-Net's three variables."""
        return {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    def run(self, *command: str | Path) -> None:
        """Print a command, then run it with nnU-Net's folders in here.

        Raises:
            UserError: If it is not installed or fails; it has said why.
        """
        words = [str(word) for word in command]
        print(f"\n$ {shlex.join(words)}", flush=True)
        result = subprocess.run(
            [_executable(words[0]), *words[1:]], env=DEFAULTS | os.environ | self.folders, check=False
        )
        if result.returncode < 0:  # SIGKILL is what Linux sends where memory is short
            raise UserError(f"`{words[0]}` was stopped by {signal.Signals(-result.returncode).name}")
        if result.returncode > 0:
            raise UserError(f"`{words[0]}` ended with exit code {result.returncode}; the lines above say why")


def _executable(name: str) -> str:
    """Find a command beside this Python first: its environment need not be activated."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise UserError(f"{name} is not installed beside {sys.executable}; run pip install nnunetv2-unet3plus there")
    return found
