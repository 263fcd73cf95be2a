"""What all benchmarks share: arguments, refusals, a table that is printed row by row, JSON.

A benchmark is a function of its arguments and a `Report`, to which it adds rows; `run` does the rest:

    def main(argv=None):
        parser = Parser(__doc__)
        parser.add_argument("--size", type=positive, default=320)
        return run(parser, measure, argv)
"""

import argparse
import inspect
import json
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import torch

from nnunetv2_unet3plus.conversion.options import positive
from nnunetv2_unet3plus.errors import UserError, explain

OUT_OF_MEMORY = "DefaultCPUAllocator"  # what PyTorch's message names where the CPU's memory is at its end


class Parser(argparse.ArgumentParser):
    """The common arguments; an error is one line."""

    def __init__(self, description: str | None, runs: int = 3) -> None:
        """Add the common arguments.

        Args:
            description: the script's docstring.
            runs: default of `--runs`.
        """
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
        self.add_argument("--threads", type=positive, default=2, help="threads of torch (default: 2)")
        self.add_argument("--runs", type=positive, default=runs, help=f"rounds measured (default: {runs})")
        self.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UserError(f"{message} (see --help)")


class Report:
    """The rows of a benchmark.

    Attributes:
        rows: of the same keys each, ready for JSON.
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Print a row as soon as it is known, under a header where its columns are not those of the row before.

        Args:
            **row: what it is about first, then the ratio, then the figures it is made of; a name's underscores are
                printed as blanks.
        """
        if not self.rows or list(row) != list(self.rows[-1]):
            print(_line([name.replace("_", " ") for name in row], row))
        self.rows.append(row)
        print(_line([_cell(value) for value in row.values()], row), flush=True)

    def write(self, file: Path, args: argparse.Namespace, command: Sequence[str]) -> None:
        """Write rows and what they were measured with.

        Args:
            file: replaced where there is one.
            args: the benchmark's.
            command: as it was called.
        """
        device = torch.cuda.get_device_name() if args.device == "cuda" else cpu_model()
        content = {
            "command": " ".join(command),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "torch": torch.__version__,
            "device": device,
            "cpu": cpu_model(),
            "threads": args.threads,
            "runs": args.runs,
            "rows": self.rows,
        }
        file.write_text(json.dumps(content, indent=1) + "\n")


def run(
    parser: Parser, measure: Callable[[argparse.Namespace, Report], None], argv: Sequence[str] | None = None
) -> int:
    """Run a benchmark.

    Args:
        parser: its arguments.
        measure: what it does with them.
        argv: the arguments; those of the process if left out.

    Returns:
        The exit code: 0, or 2 for what the user can repair, said in one line on stderr.
    """
    name, threads = Path(inspect.getfile(measure)).stem, torch.get_num_threads()
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parser.parse_args(argv)
        check_device(args.device)
        check_target(args.json)
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        report = Report()
        measure(args, report)
        if args.json:
            report.write(args.json, args, ["python", "-m", f"benchmarks.{name}", *argv])
        return 0
    except UserError as error:
        line = str(error)
    except OSError as error:
        line = str(explain(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        line = f"out of memory ({' '.join(str(error).split())[:160]}): take less at a time, such as a smaller --size"
    finally:
        torch.set_num_threads(threads)
    print(f"{name}: error: {' '.join(line.split())}", file=sys.stderr)
    return 2


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: saying so.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA device here; leave it out to measure on the CPU")


def check_target(file: Path | None) -> None:
    """Refuse before measuring what could not be written afterwards.

    Raises:
        UserError: for a folder, or a file in a folder that does not exist.
    """
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise UserError(f"--json {file}: not a file in a folder that exists; name another")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is at its end, of a CUDA device or of the machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or OUT_OF_MEMORY in str(error)


def cpu_model() -> str:
    """The processor's name as Linux knows it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _line(cells: Sequence[str], row: dict[str, Any]) -> str:
    """Text to the left in wide columns, numbers to the right."""
    aligned = []
    for column, (cell, (name, value)) in enumerate(zip(cells, row.items(), strict=True)):
        number = not isinstance(value, str)
        aligned.append(f"{cell:>{max(9, len(name))}}" if number else f"{cell:<{42 if column else 30}}")
    return "  ".join(aligned).rstrip()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.2f}"
    return str(value)
