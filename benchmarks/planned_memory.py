"""The planner's estimate of memory against bytes that autograd keeps, and against a GPU where there is one.

    python -m benchmarks.planned_memory               # from the repository's root; on the CPU nothing is computed
    python -m benchmarks.planned_memory --vram 11

For each plan, made by `unet3plus plan` for a dataset of which there is a fingerprint alone (those of LiTS, ACDC and
BraTS): GB estimated to be kept for backward by the whole batch in mixed precision, GB kept, their ratio; the share by
which backward exceeds that; GB of the whole training by the planner. With CUDA, what PyTorch allocates at most in real
training steps in mixed precision: the CUDA context and what the allocator cannot use come on top in nvidia-smi.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.planning.memory import GB, network_on_meta, saved_bytes, training_cost
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes_by_kind

DATASETS = {"LiTS": ((1, 0.77, 0.77), (482, 512, 512)), "ACDC": ((5, 1.56, 1.56), (18, 237, 208))}
DATASETS["BraTS"] = ((1, 1, 1), (140, 171, 136))
CASES = [
    ("LiTS", ["--network", "unet3plus"]),
    ("LiTS", ["--network", "unetplusplus"]),
    ("LiTS", ["--network", "unet3plus", "--residual-encoder", "M"]),
    ("ACDC", ["--network", "unetsharp"]),
    ("ACDC", ["--network", "unet3plus_cgm"]),
    ("BraTS", ["--network", "unetplusplus", "--residual-encoder", "M"]),
    ("BraTS", ["--network", "vnet3plus"]),
]
LABELS = ("organ", "tumour")
CHANNELS, CLASSES, STEPS = 1, 1 + len(LABELS), 3


Grid = tuple[tuple[float, ...], tuple[int, ...]]  # spacing, shape


def write_dataset(root: Path, number: int, name: str, grid: Grid, labels: Sequence[str] = LABELS) -> None:
    """What nnU-Net's planner reads: descriptions, no scans."""
    spacing, shape = grid
    dataset = f"Dataset{number:03d}_{name}"
    files = {"images": ["case_0000.nii.gz"], "label": "case.nii.gz"}
    description = {
        "channel_names": {"0": "CT"},
        "labels": {label: value for value, label in enumerate(("background", *labels))},
        "numTraining": 100,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {"case": files},
    }
    fingerprint = {
        "spacings": [spacing],
        "shapes_after_crop": [shape],
        "foreground_intensity_properties_per_channel": {},
        "median_relative_size_after_cropping": 1.0,
    }
    for folder, file, content in (
        ("raw", "dataset.json", description),
        ("preprocessed", "dataset_fingerprint.json", fingerprint),
    ):
        (root / folder / dataset).mkdir(parents=True)
        (root / folder / dataset / file).write_text(json.dumps(content))


def planned(root: Path, vram: float) -> Iterator[tuple[str, str, ConfigurationManager]]:
    """Dataset, configuration and plan of everything that is measured."""
    for folder in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{folder}"] = str(root / folder)
    for number, name in enumerate(DATASETS, start=1):
        write_dataset(root, number, name, DATASETS[name])
    for index, (name, options) in enumerate(CASES):
        number = list(DATASETS).index(name) + 1
        with redirect_stdout(StringIO()):
            code = cli.main(["plan", "-d", str(number), *options, "--vram", str(vram), "--name", f"Plans{index}"])
        if code:
            raise SystemExit(code)
        plans = PlansManager(str(root / "preprocessed" / f"Dataset{number:03d}_{name}" / f"Plans{index}.json"))
        for configuration in plans.available_configurations:
            if configuration not in ("3d_lowres", "3d_cascade_fullres"):  # of the same kind as 3d_fullres
                yield name, configuration, plans.get_configuration(configuration)


def peak_on_gpu(configuration: ConfigurationManager) -> float:
    """GB that PyTorch allocates at most in training steps in mixed precision, SGD with momentum as nnU-Net's."""
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        CHANNELS,
        CLASSES,
        deep_supervision=True,
    ).cuda()
    torch.backends.cudnn.benchmark = True
    torch.cuda.reset_peak_memory_stats()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.99, nesterov=True)
    x = torch.randn(configuration.batch_size, CHANNELS, *configuration.patch_size, device="cuda")
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda"):
            outputs = network(x)
            outputs = [outputs] if isinstance(outputs, Tensor) else outputs
            loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
        loss.backward()
        optimizer.step()
    peak = torch.cuda.max_memory_allocated() / GB
    del network, optimizer, x, outputs, loss
    torch.cuda.empty_cache()
    return peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vram", type=float, default=8, help="GB to plan for (default: 8)")
    vram = parser.parse_args().vram
    cuda = torch.cuda.is_available()
    print(
        f"{'dataset':8}{'network':16}{'configuration':14}{'patch':>16}{'batch':>6}{'estimate':>10}{'kept':>8}{'ratio':>7}"
        f"{'share':>7}{'training':>10}{'on GPU':>8}"
    )
    ratios = []
    with tempfile.TemporaryDirectory() as root:
        for dataset, name, configuration in planned(Path(root), vram):
            architecture = configuration.configuration["architecture"]
            patch, batch = configuration.patch_size, configuration.batch_size
            network = network_on_meta(architecture, CHANNELS, CLASSES)
            numbers, indices = saved_bytes_by_kind(network, torch.empty(batch, CHANNELS, *patch, device="meta"))
            cost = training_cost(network, CHANNELS, patch)
            estimate, kept = saved_bytes(cost.stored_values, batch) / GB, (numbers / 2 + indices) / GB
            ratios.append(estimate / kept)
            inner = architecture["arch_kwargs"].get("network_class_name", architecture["network_class_name"])
            line = f"{dataset:8}{inner.split('.')[-1]:16}{name:14}{' x '.join(map(str, patch)):>16}{batch:>6}"
            line += (
                f"{estimate:10.2f}{kept:8.2f}{ratios[-1]:7.3f}{cost.backward_share:7.2f}{cost.gigabytes(batch):10.2f}"
            )
            print(f"{line}{peak_on_gpu(configuration) if cuda else float('nan'):8.2f}", flush=True)
    print(f"{len(ratios)} plans, estimate / kept from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
