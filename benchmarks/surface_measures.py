"""HD95 and surface Dice against MONAI's: time and memory of a scan of 512 x 512 x 300 voxels with one class.

    python -m benchmarks.surface_measures                 # a liver, and another liver as its prediction
    python -m benchmarks.surface_measures --everything    # every voxel is predicted: minutes for MONAI

Each in a process of its own. Seconds are of the processor, of the measuring alone; memory is the most the process ever
holds, of which the masks are 0.16 GB.
"""

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import process_time

import numpy as np

SIZE = (300, 512, 512)
SPACING = (1.0, 0.75, 0.75)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--everything", action="store_true", help="the prediction holds every voxel")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "truth.npy", Path(folder) / "prediction.npy"]
        np.save(files[0], liver(0))
        np.save(files[1], np.ones(SIZE, bool) if args.everything else liver(1))
        for measure in (ours, monais):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                print(f"{measure.__name__}: {pool.submit(run, measure, files).result()}", flush=True)


def run(measure: Callable[[np.ndarray, np.ndarray], tuple[float, str]], files: list[Path]) -> str:
    """Time, memory and the figures themselves."""
    seconds, figures = measure(np.load(files[0]), np.load(files[1]))
    status = Path("/proc/self/status").read_text()  # a process's `ru_maxrss` begins with its parent's
    peak = int(status.partition("VmHWM:")[2].split()[0])
    return f"{seconds:.1f} s, {peak / 2**20:.2f} GB, {figures}"


def liver(seed: int) -> np.ndarray:
    """An ellipsoid with bumps, half as long as the scan along each axis."""
    axes = (np.linspace(-2, 2, SIZE[0]), np.linspace(-2.1, 2.1, SIZE[1]), np.linspace(-1.7, 1.7, SIZE[2]))
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    waves = np.random.default_rng(seed).uniform(0, 2 * np.pi, 3)
    return z**2 + y**2 + x**2 < 1 + 0.05 * np.sin(9 * z + waves[0]) * np.sin(9 * y + waves[1]) * np.sin(
        9 * x + waves[2]
    )


def ours(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, str]:
    """This package's."""
    import SimpleITK as sitk  # noqa: N813 - its usual name

    from nnunetv2_unet3plus.benchmarking.measures.surface import measure_surfaces

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    start = process_time()
    found = measure_surfaces(truth, prediction, SPACING)
    return process_time() - start, f"HD95 {found['hd95']:.4f}, surface Dice {found['surface_dice']:.4f}"


def monais(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, str]:
    """MONAI's two functions, one after the other."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    torch.set_num_threads(1)
    masks = {"y": torch.from_numpy(truth)[None, None], "y_pred": torch.from_numpy(prediction)[None, None]}
    start = process_time()
    hd95 = compute_hausdorff_distance(**masks, include_background=True, spacing=SPACING, percentile=95)
    dice = compute_surface_dice(
        **masks, class_thresholds=[2.0], include_background=True, spacing=SPACING, use_subvoxels=True
    )
    return process_time() - start, f"HD95 {hd95.item():.4f}, surface Dice {dice.item():.4f}"


if __name__ == "__main__":
    main()
