"""Converting a dataset against merely reading its files and writing them gzipped: throughput and memory.

    python -m benchmarks.conversion                       # a phantom of 12 cases of 126 MB, two processes
    python -m benchmarks.conversion --source /path/to/LiTS

Both in turn with the same number of processes. Memory is the most a converter with one process ever holds, less what it
holds for a dataset of one tiny case, by the size of the largest volume.
"""

import argparse
import gzip
import resource
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import nibabel as nib
import numpy as np

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a dataset in LiTS layout (default: a phantom)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="pairs measured (default: 3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        source = args.source or phantom(Path(work) / "phantom", cases=12, size=(512, 512, 240))
        files = sorted(path for path in source.rglob("*.nii*") if not path.name.startswith("."))
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(args.runs):
            seconds[0].append(timed(partial(copy_bare, files, Path(work) / "bare", args.processes)))
            seconds[1].append(timed(partial(convert, source, Path(work) / "raw", args.processes)))
        tiny = phantom(Path(work) / "tiny", cases=1, size=(8, 8, 8))
        largest = max(np.prod(nib.load(path).shape) * nib.load(path).get_data_dtype().itemsize for path in files)
        held = peak_bytes(source, Path(work) / "raw") - peak_bytes(tiny, Path(work) / "raw")
        print(f"{source.name}, {len(files)} files, {args.processes} processes, {args.runs} pairs")
        print(f"seconds, median: bare {median(seconds[0]):.1f}, converter {median(seconds[1]):.1f}")
        ratio = median(bare / converter for bare, converter in zip(*seconds, strict=True))
        print(f"throughput, converter / bare: {ratio:.2f}")
        print(f"memory a worker / largest volume ({largest / 1e6:.0f} MB): {held / largest:.2f}")


def phantom(folder: Path, cases: int, size: tuple[int, int, int]) -> Path:
    """Noise as of a CT, and a label in it, uncompressed as the challenge has them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    label = np.zeros(size, np.uint8)
    label[tuple(slice(n // 4, n // 2) for n in size)] = 1
    for number in range(cases):
        image = random.normal(40, 20, size).astype(np.int16)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"volume-{number}.nii")
        nib.save(nib.Nifti1Image(label, AFFINE), folder / f"segmentation-{number}.nii")
    return folder


def timed(run: partial) -> float:
    """Seconds."""
    start = perf_counter()
    run()
    return perf_counter() - start


def copy_bare(files: list[Path], target: Path, processes: int) -> None:
    """Read every file and write it gzipped, nothing else."""
    target.mkdir()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(partial(copy_one, target=target), files))
    shutil.rmtree(target)


def copy_one(path: Path, target: Path) -> None:
    """One of them, with the compression the converter uses."""
    with (
        gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream,
        gzip.open(target / f"{path.name}.gz", "wb", compresslevel=1) as packed,
    ):
        packed.write(stream.read())


def convert(source: Path, raw: Path, processes: int) -> None:
    """The command, in a process of its own."""
    run_converter(source, raw, processes)
    shutil.rmtree(raw)


def run_converter(source: Path, raw: Path, processes: int) -> None:
    """Into an empty folder."""
    command = ["convert", "lits", str(source), "--output", str(raw), "-np", str(processes)]
    program = [sys.executable, "-m", "nnunetv2_unet3plus.cli"]
    subprocess.run([*program, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_bytes(source: Path, raw: Path) -> int:
    """The most memory that one converting process held."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:  # whose children are this one converter alone
        return pool.submit(peak_of_child, source, raw).result()


def peak_of_child(source: Path, raw: Path) -> int:
    """Convert in a child; its peak."""
    convert(source, raw, 1)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


if __name__ == "__main__":
    main()
