"""The loops of cpu_loops.c, compiled when a CPU first needs them and kept for the next time.

PyTorch's operators do the same, and do it where there is no C compiler, or `UNET3PLUS_CPU_LOOPS=0` says so: then what
uses these loops takes them instead, in more walks through memory. A compiler, as Triton needs one on CUDA, is all that
is needed: neither headers of Python nor of PyTorch.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.minimal_filtering import minimal_filtering

SWITCH = "UNET3PLUS_CPU_LOOPS"
SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=gnu11")
CHANNELS_OF_VECTOR = 16
"""Loops that go by whole vectors take multiples of so many channels, whatever the processor."""

Sparse = tuple[Tensor, Tensor, Tensor]
"""Of a sparse matrix the first entry of every row and behind the last, offsets of what is multiplied, values."""


class _Sparse(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("starts", "offsets", "values")]


class Loops:
    """The functions of the compiled library. They take tensors and numbers as they stand in the source.

    The last argument there, the number of threads, is added: `torch.get_num_threads()`, by which callers measure the
    memory that every thread has for itself.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        """Of a library."""
        self._library = library

    def __getattr__(self, name: str) -> Any:
        """A function of the library."""
        function = getattr(self._library, name)
        function.restype = None

        def call(*arguments: Any) -> None:
            function(*(_argument(argument) for argument in arguments), ctypes.c_int(torch.get_num_threads()))

        setattr(self, name, call)
        return call


def _argument(value: Any) -> Any:
    """As C takes it.

    Raises:
        TypeError: for what the loops cannot read.
    """
    if isinstance(value, Tensor):
        if value.device.type != "cpu" or value.dtype not in (torch.float32, torch.float64, torch.int64):
            raise TypeError(f"the compiled loops read no {value.dtype} on {value.device}")
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, tuple):
        return ctypes.byref(_Sparse(*(part.data_ptr() for part in value)))
    if isinstance(value, float):
        return ctypes.c_float(value)
    return None if value is None else ctypes.c_int64(value)


def loops_for(*tensors: Tensor | None) -> Loops | None:
    """The compiled loops, where they apply and where they can be compiled.

    They apply to single precision on the CPU, and to tensors with values: not while something traces what happens to
    tensors, as fake ones have no memory.
    """
    given = [x for x in tensors if x is not None]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() == 0 for x in given):
        return None
    if any(type(x) not in (Tensor, nn.Parameter) for x in given) or torch._C._len_torch_dispatch_stack() > 0:
        return None
    return compiled_loops()


def compiled_loops() -> Loops | None:
    """The compiled loops; None where there are none, see `compiled_or_why_not`."""
    loops = compiled_or_why_not()
    return loops if isinstance(loops, Loops) else None


@lru_cache
def compiled_or_why_not() -> Loops | str:
    """The compiled loops, or in one line why there are none: PyTorch's operators compute then."""
    if os.environ.get(SWITCH) == "0":
        return f"switched off by {SWITCH}=0"
    if sys.platform != "linux":  # where a second OpenMP beside PyTorch's ends the process
        return "compiled on Linux alone"
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    except ValueError as error:  # a quotation mark alone
        return f"CC is not a command: {error}"
    if shutil.which(compiler[0]) is None:
        return f"no C compiler {compiler[0]!r} found"
    try:
        return Loops(_library(compiler))
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())[:200] or f"exit code {error.returncode}"
        return f"{' '.join(compiler)} failed: {said}"
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:  # no place to keep them, no home directory
        return " ".join(str(error).split())


def _library(compiler: list[str]) -> ctypes.CDLL:
    """Load what this processor has compiled before; else compile."""
    source = _matrices() + SOURCE.read_text()
    command = [*compiler, *FLAGS, "-x", "c", "-"]
    key = hashlib.sha256("\n".join((source, *command, _processor())).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnunetv2_unet3plus"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    library = folder / f"cpu_loops_{key}.so"
    try:
        if library.stat().st_uid == os.geteuid():  # somebody else's code is not run
            return ctypes.CDLL(str(library))
    except OSError:  # not there, or of another system that shares this home
        pass
    # in a place of its own, then under its name at once: other processes may be at it, too
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = Path(place) / library.name
        subprocess.run(
            [*command, "-o", str(made)],
            input=source,
            text=True,
            errors="replace",
            check=True,
            capture_output=True,
            timeout=120,
        )
        loaded = ctypes.CDLL(str(made))
        made.replace(library)
        return loaded


def _matrices() -> str:
    """The matrices of minimal filtering as constants."""
    of_input, of_kernel, of_output = minimal_filtering(torch.float32)
    named = {"OF_INPUT": of_input, "OF_KERNEL": of_kernel, "OF_OUTPUT": of_output}
    named |= {f"{name}_TRANSPOSED": named[name].T for name in ("OF_KERNEL", "OF_OUTPUT")}
    return "".join(
        f"static const float {name}[] = {{{', '.join(f'{value!r}f' for value in matrix.flatten().tolist())}}};\n"
        for name, matrix in named.items()
    )


def _processor() -> str:
    """What code for this processor may use: a cache in a home directory is shared by a cluster's nodes."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return sys.platform
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
