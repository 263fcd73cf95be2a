"""What the forms of UNet 3+ cost in accuracy: short trainings of nnU-Net's own, from several seeds.

    python -m benchmarks.accuracy.forms nnUNet_raw/Dataset004_Hippocampus 2d /path/to/workspace --cases 40
    python -m benchmarks.accuracy.forms nnUNet_raw/Dataset501_LiTS 2d /path/to/workspace --patch-size 128

Plans and preprocesses as the stock commands do, then trains fold 0 of every form from every seed and lets nnU-Net
predict (without mirroring) and evaluate the held-out quarter of the cases. All forms meet the same patches. What a
workspace already has is not made again. Prints the mean foreground Dice of every seed, their mean and standard
deviation, and how far the losses of the form that keeps all maps and of the one that recomputes them are apart.
"""

import argparse
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks.accuracy import seeded


@dataclass(frozen=True)
class Form:
    """A trainer, and what its plan says about the network beside nnU-Net's own arguments."""

    name: str
    trainer: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def plans(self) -> str:
        """The name of its plans."""
        return "nnUNetPlans" + "".join(f"_{name}_{value}" for name, value in self.options.items())


KEEPS_ALL = Form("UNet3Plus that keeps all maps", "nnUNetTrainerUNet3Plus", {"recompute": False})
EXACT = Form("UNet3Plus", "nnUNetTrainerUNet3Plus")
FORMS = (
    KEEPS_ALL,
    EXACT,
    Form("UNet3PlusLite", "nnUNetTrainerUNet3PlusLite"),
    Form("nnU-Net's default network", "nnUNetTrainerHybridLoss"),
)


@dataclass(frozen=True)
class Result:
    """Of one training: mean foreground Dice of the held-out cases, and the training loss of every epoch."""

    dice: float
    losses: list[float]


def main() -> None:
    """Plan, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="in nnU-Net's raw format")
    parser.add_argument("configuration", help="2d, 3d_fullres, ...")
    parser.add_argument("workspace", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--cases", type=int, help="take the first so many (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=50, help="per epoch (default: 50)")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--patch-size", type=int, help="voxels along each axis (default: the plan's)")
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side (default: 2)")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    args = parser.parse_args()
    if not (args.dataset / "dataset.json").is_file():
        parser.error(f"{args.dataset} has no dataset.json: give a dataset in nnU-Net's raw format")
    if not remembers(args):
        parser.error(f"{args.workspace} holds trainings with other options: give another")
    os.environ |= {f"nnUNet_{name}": str(args.workspace / name) for name in ("raw", "preprocessed", "results")}

    plan(args.dataset, args.configuration, args.workspace, args.cases)
    for form in FORMS:
        write_plans(preprocessed(args), args.configuration, form, args.batch_size, args.patch_size)
    length = f"_{args.epochs}epochs_{args.iterations}iters"
    with ThreadPoolExecutor(args.processes) as pool:
        jobs = {
            (form.name, seed): pool.submit(result, args, form, length, seed) for seed in args.seeds for form in FORMS
        }
        results = {key: job.result() for key, job in jobs.items()}
    report(args, results)


def remembers(args: argparse.Namespace) -> bool:
    """Whether a workspace is new, or was begun with the same arguments; seeds and processes may differ."""
    free = ("workspace", "seeds", "processes", "json")
    wanted = {name: str(value) for name, value in vars(args).items() if name not in free}
    file = args.workspace / "arguments.json"
    if file.exists():
        return bool(json.loads(file.read_text()) == wanted)
    args.workspace.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(wanted))
    return True


def preprocessed(args: argparse.Namespace) -> Path:
    """Where the plans are."""
    return Path(args.workspace / "preprocessed" / args.dataset.name)


def plan(dataset: Path, configuration: str, workspace: Path, cases: int | None) -> None:
    """Take the first cases, plan, preprocess, hold a quarter of them out."""
    folder = workspace / "preprocessed" / dataset.name
    if (folder / "splits_final.json").exists():
        return
    raw = workspace / "raw" / dataset.name
    shutil.rmtree(raw, ignore_errors=True)
    labels = sorted((dataset / "labelsTr").iterdir())[:cases]
    content = json.loads((dataset / "dataset.json").read_text())
    ending = content["file_ending"]
    names = [label.name.removesuffix(ending) for label in labels]
    for kind in ("imagesTr", "labelsTr"):
        (raw / kind).mkdir(parents=True)
    for name, label in zip(names, labels, strict=True):
        for source in (label, *(dataset / "imagesTr").glob(f"{name}_????{ending}")):
            (raw / source.parent.name / source.name).symlink_to(source.resolve())
    (raw / "dataset.json").write_text(json.dumps(content | {"numTraining": len(names)}))
    number = dataset.name[len("Dataset") :].split("_")[0]
    subprocess.run(["nnUNetv2_plan_and_preprocess", "-d", number, "-c", configuration, "-np", "1"], check=True)
    held_out = names[::4]
    split = {"train": [name for name in names if name not in held_out], "val": held_out}
    (folder / "splits_final.json").write_text(json.dumps([split]))


def write_plans(folder: Path, configuration: str, form: Form, batch_size: int, patch_size: int | None) -> None:
    """A form's plans; of a patch of another size at least four voxels are left along each axis of the deepest map."""
    content = json.loads((folder / "nnUNetPlans.json").read_text())
    if "stock" not in content:
        content["stock"] = content["configurations"][configuration]
    configured = json.loads(json.dumps(content["stock"])) | {"batch_size": batch_size}
    network = configured["architecture"]["arch_kwargs"]
    if patch_size:
        configured["patch_size"] = [patch_size] * len(configured["patch_size"])
        stages = network["n_stages"] = min(network["n_stages"], int(log2(patch_size / 4)) + 1)
        for per_stage in ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"):
            network[per_stage] = network[per_stage][:stages]
        network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: stages - 1]
    network |= form.options
    content["configurations"][configuration] = configured
    content["plans_name"] = form.plans
    (folder / f"{form.plans}.json").write_text(json.dumps(content))


def result(args: argparse.Namespace, form: Form, length: str, seed: int) -> Result:
    """Train, unless that has been done, and read what came of it."""
    trainer = form.trainer + length
    results = args.workspace / f"results of seed {seed}"
    fold = results / args.dataset.name / f"{trainer}__{form.plans}__{args.configuration}" / "fold_0"
    summary = fold / "validation" / "summary.json"
    if not summary.exists():
        environment = os.environ | {"nnUNet_results": str(results)}
        arguments = (args.dataset.name, args.configuration, "0", "-tr", trainer, "-p", form.plans)
        seeded.train(*arguments, seed=seed, environment=environment, quiet=True)
        print(f"trained: {form.name}, seed {seed}", flush=True)
    dice = json.loads(summary.read_text())["foreground_mean"]["Dice"]
    logged = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)["logging"]
    return Result(dice, [float(loss) for loss in logged["train_losses"]])


def report(args: argparse.Namespace, results: dict[tuple[str, int], Result]) -> None:
    """Print the table and write it as JSON."""
    print(f"\n{args.dataset.name}, {args.configuration}, {args.epochs} x {args.iterations} steps of {args.batch_size}")
    print(f"{'':34}{'mean Dice':>10}{'SD':>8}   seeds {args.seeds}")
    rows = {form.name: [results[form.name, seed].dice for seed in args.seeds] for form in FORMS}
    for name, dice in rows.items():
        spread = stdev(dice) if len(dice) > 1 else float("nan")
        print(f"{name:34}{mean(dice):10.4f}{spread:8.4f}   {' '.join(f'{value:.4f}' for value in dice)}")
    kept, again = ([results[form.name, seed].losses for seed in args.seeds] for form in (KEEPS_ALL, EXACT))
    pairs = [(a, b) for first, second in zip(kept, again, strict=True) for a, b in zip(first, second, strict=True)]
    apart = max(abs(a - b) / abs(a) for a, b in pairs)
    print(f"losses, kept and recomputed: at most {apart:.1e} of themselves apart, in any epoch of any seed")
    if args.json:
        arguments = {name: str(value) for name, value in vars(args).items()}
        content = {"arguments": arguments, "dice": rows, "losses": {"kept": kept, "recomputed": again}}
        args.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
