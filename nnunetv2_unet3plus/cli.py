"""The `unet3plus` command.

A subcommand is one function that adds its parser and sets `run`, listed in `_COMMANDS`. Whatever is slow to import
is imported in `run`, so that `unet3plus --help` answers at once.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import nnunetv2_unet3plus
from dataset_conversion import Dataset501_LiTS, Dataset509_Spleen, decathlon
from nnunetv2_unet3plus.benchmarking.executors import options as executors
from nnunetv2_unet3plus.conversion import options
from nnunetv2_unet3plus.demo import run as demo
from nnunetv2_unet3plus.errors import UserError, explain

_CONVERTERS: dict[str, tuple[ModuleType, str]] = {
    "lits": (Dataset501_LiTS, "unet3plus convert lits ~/Downloads/LiTS --organ --split paper"),
    "spleen": (
        Dataset509_Spleen,
        "unet3plus convert spleen ~/Downloads/Task09_Spleen --split paper\n"
        "  unet3plus convert spleen patients --organ liver -d 510 --name Liver --id-map key.csv",
    ),
    "msd": (decathlon, "unet3plus convert msd ~/Downloads/Task04_Hippocampus -d 4 --name Hippocampus"),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of this command."""

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and leaving."""
        raise UserError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; those of the process if left out.

    Returns:
        The exit code: 0, 2 for what the user can repair (one line on stderr), 130 after Ctrl-C.
    """
    # nnU-Net imports what PyTorch calls deprecated; it would stand above the one line that matters
    warnings.filterwarnings("ignore", r".*torch\.jit\.interface", FutureWarning)
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a name must not end the command
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
        return args.run(args)
    except UserError as error:
        line = str(error)
    except OSError as error:
        line = str(explain(error))
    except KeyboardInterrupt:
        print("unet3plus: stopped; to go on, run the same command again", file=sys.stderr)
        return 130
    print(f"unet3plus: error: {' '.join(line.split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unet3plus",
        description="Tools around the UNet 3+ trainers for nnU-Net v2.",
        epilog="example:\n  unet3plus doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("nnunetv2-unet3plus"))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser


Commands = argparse._SubParsersAction  # the type `add_subparsers` returns; argparse has no public name for it


def _add(commands: Commands, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_convert(commands: Commands) -> None:
    parser = _add(
        commands, "convert", "turn a public dataset into an nnU-Net dataset", "unet3plus convert lits ~/Downloads/LiTS"
    )
    datasets = parser.add_subparsers(metavar="DATASET", required=True)
    for name, (script, example) in _CONVERTERS.items():
        subparser = _add(datasets, name, script.SUMMARY, example)
        script.add_options(subparser)
        subparser.set_defaults(run=script.run)


def _add_demo(commands: Commands) -> None:
    parser = _add(
        commands,
        "demo",
        "run the real nnU-Net commands on phantom CT, or on a LiTS download: masks, a Dice table, pictures",
        "unet3plus demo --output demo_output",
    )
    demo.add_arguments(parser)
    parser.set_defaults(run=demo.run)


def _add_plan(commands: Commands) -> None:
    parser = _add(
        commands,
        "plan",
        "plan patches, batches and stages for a network of ours within the memory of a GPU",
        "unet3plus plan -d 501\n"
        "  unet3plus plan -d 501 --network unetplusplus --vram 11 --residual-encoder M\n"
        "the UNet 3+ paper's input, three slices of 320 x 320:\n"
        "  unet3plus plan -d 501 --configurations 2d 2.5d --patch-size 320 320",
    )
    parser.add_argument("-d", "--dataset", required=True, help="number or name of the dataset")
    parser.add_argument(
        "--network", default="unet3plus", help="unet3plus (default), unetplusplus, ...: a wrong name lists them all"
    )
    parser.add_argument(
        "--vram", type=float, metavar="GB", help="of the whole training (default: 8; with --residual-encoder 8, 24, 40)"
    )
    parser.add_argument(
        "--configurations",
        nargs="+",
        choices=("2d", "2.5d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"),
        metavar="NAME",
        help="2d, 2.5d, 3d_fullres, 3d_lowres, 3d_cascade_fullres (default: all that suit the dataset)",
    )
    parser.add_argument("--residual-encoder", choices=("M", "L", "XL"), help="nnU-Net's residual encoder, and its GB")
    parser.add_argument(
        "--patch-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="in the plane, of 2d and 2.5d"
    )
    parser.add_argument("--name", help="of the plans file (default: by network, such as nnUNetUNet3PlusPlans)")
    parser.set_defaults(run=_run_plan)


def _run_plan(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.planning import command  # imports torch

    return command.run(args)


def _add_prune(commands: Commands) -> None:
    parser = _add(
        commands,
        "prune",
        "cut a trained UNet++ or UNet# down to its first levels, as an ordinary nnU-Net model folder",
        "cd $nnUNet_results/Dataset501_LiTS\n"
        "  unet3plus prune nnUNetTrainerUNetSharp__nnUNetPlans__2d --auto -o pruned\n"
        "  unet3plus prune nnUNetTrainerUNetSharp__nnUNetPlans__2d --level 2 \\\n"
        "      -o nnUNetTrainerUNetSharp__nnUNetPlansL2__2d\n"
        "so named, nnUNetv2_predict and nnUNetv2_export_model_to_zip find it by -p nnUNetPlansL2",
    )
    parser.add_argument("model_folder", type=Path, metavar="MODEL_FOLDER", help="trained model, with deep supervision")
    parser.add_argument("--level", type=int, help="deepest level to keep, from 1")
    parser.add_argument(
        "--auto", action="store_true", help="measure all levels on the validation scans, keep the first good enough"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="percentage points of Dice that --auto may lose (default: 0.5)",
    )
    parser.add_argument("--device", default=None, help="cpu, cuda or mps, for --auto (default: cuda if there is one)")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="new model folder, made complete or not at all"
    )
    parser.set_defaults(run=_run_prune)


def _run_prune(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.pruning import command  # imports torch

    return command.run(args)


def _add_export(commands: Commands) -> None:
    parser = _add(
        commands,
        "export",
        "write a trained network as a .pt2 file that runs with PyTorch alone, on patches of one size",
        "cd $nnUNet_results/Dataset501_LiTS\n"
        "  unet3plus export nnUNetTrainerUNet3Plus__nnUNetPlans__2d -f 0 -o unet3plus.pt2\n"
        "then, wherever there is PyTorch:\n"
        '  logits = torch.export.load("unet3plus.pt2").module()(patch)',
    )
    parser.add_argument("model_folder", type=Path, metavar="MODEL_FOLDER", help="trained model, of any trainer")
    parser.add_argument("-f", "--fold", help="0, 1, ..., all (default: the only one there is)")
    parser.add_argument(
        "-chk",
        "--checkpoint",
        default="checkpoint_final.pth",
        metavar="NAME",
        help="file in the fold's folder (default: checkpoint_final.pth)",
    )
    parser.add_argument(
        "--size", type=options.positive, nargs="+", metavar="N", help="of the patches (default: that of the plans)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="new file, FILE.pt2")
    parser.set_defaults(run=_run_export)


def _run_export(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.exporting import command  # imports torch

    return command.run(args)


def _add_prepare_scans(commands: Commands) -> None:
    parser = _add(
        commands,
        "prepare-scans",
        "turn a folder of new scans (NIfTI, NRRD, DICOM series) into what nnUNetv2_predict wants",
        "unet3plus prepare-scans ~/new_scans -o prepared\n"
        "  nnUNetv2_predict -i prepared -o masks -d 501 -c 2d -f 0 -tr nnUNetTrainerUNet3Plus\n"
        "  unet3plus restore-masks masks --scans prepared -o restored",
    )
    parser.add_argument("scans", metavar="SCANS", type=options.folder, help="folder with the scans; only read")
    _add_output(parser, "scan_001_0000.nii.gz and so on, and scans.json, which tells which is which")
    options.add_processes(parser)
    options.add_orientation(parser)
    options.add_leave_out_refused(parser, "prepare the scans that can be used, instead of stopping")
    parser.set_defaults(run=_run_prepare_scans)


def _run_prepare_scans(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.scans import prepare  # imports ITK and nibabel

    return prepare.run(args)


def _add_restore_masks(commands: Commands) -> None:
    parser = _add(
        commands,
        "restore-masks",
        "put the masks of nnUNetv2_predict back on their scans: named as these, for DICOM as DICOM-SEG",
        "unet3plus restore-masks masks --scans prepared -o restored",
    )
    parser.add_argument("masks", metavar="MASKS", type=options.folder, help="folder nnUNetv2_predict has written")
    parser.add_argument(
        "--scans", type=options.folder, required=True, help="folder unet3plus prepare-scans has written"
    )
    _add_output(parser, "masks in folders and under names as the scans have them")
    options.add_processes(parser)
    parser.set_defaults(run=_run_restore_masks)


def _run_restore_masks(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.scans import restore  # imports ITK and nibabel

    return restore.run(args)


def _add_output(parser: argparse.ArgumentParser, content: str) -> None:
    parser.add_argument("-o", "--output", type=options.folder, required=True, help=f"new or empty folder for {content}")


def _add_benchmark(commands: Commands) -> None:
    parser = _add(
        commands,
        "benchmark",
        "train, predict and measure trainers on the same plan and folds, and write a report that compares them",
        "unet3plus benchmark -d 501 -c 2d -tr nnUNetTrainer nnUNetTrainerUNet3Plus --length 50epochs\n"
        "  unet3plus benchmark -d 501 -c 2d -f 0 1 -tr nnUNetTrainer nnUNetTrainerUNetSharp \\\n"
        "      --executor slurm --slurm partition=gpu time=2880 gpus_per_node=1 cpus_per_task=12 mem=32GB\n"
        "the same command again goes on where it was stopped",
    )
    parser.add_argument(
        "-d", "--dataset", required=True, help="number or name of the dataset, planned and preprocessed"
    )
    parser.add_argument("-c", "--configuration", required=True, help="2d, 3d_fullres, ...")
    parser.add_argument("-f", "--folds", nargs="+", default=list("01234"), metavar="FOLD", help="default: 0 1 2 3 4")
    parser.add_argument(
        "-tr",
        "--trainers",
        nargs="+",
        required=True,
        metavar="TRAINER",
        help="nnU-Net's, ours, yours; the first is what the others are compared with",
    )
    parser.add_argument("-p", "--plans", default="nnUNetPlans", help="name of the plans (default: nnUNetPlans)")
    parser.add_argument("--length", metavar="LENGTH", help="of every training, such as 50epochs or 50epochs_100iters")
    parser.add_argument(
        "--seed", type=options.not_negative, default=0, metavar="N", help="of every training (default: 0)"
    )
    parser.add_argument("--test-images", type=options.folder, help="held-out scans, CASE_0000.nii.gz")
    parser.add_argument("--test-labels", type=options.folder, help="their references, CASE.nii.gz")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda")
    parser.add_argument(
        "-o",
        "--output",
        type=options.folder,
        help="for the report (default: benchmark_... beside the dataset's model folders)",
    )
    executors.add_options(parser)
    _add_measuring_processes(parser)
    parser.set_defaults(run=_run_benchmark)


def _run_benchmark(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.benchmarking import command  # imports torch

    return command.run_benchmark(args)


def _add_report(commands: Commands) -> None:
    parser = _add(
        commands,
        "report",
        "compare trainings that are done, of whatever trainers, and write the report of unet3plus benchmark",
        "unet3plus report $nnUNet_results/Dataset501_LiTS -o report\n"
        "  unet3plus report $nnUNet_results/Dataset501_LiTS/nnUNetTrainer*__nnUNetPlans__2d -f 0 1 -o report",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=options.folder,
        metavar="RESULTS",
        help="model folders, a dataset's folder with all in it, or the output of unet3plus benchmark",
    )
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="default: all that are done")
    parser.add_argument("-o", "--output", type=options.folder, help="folder for report.html and the tables")
    _add_measuring_processes(parser)
    parser.set_defaults(run=_run_report)


def _run_report(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.benchmarking import command  # imports torch

    return command.run_report(args)


def _add_measuring_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-np",
        "--processes",
        type=options.positive,
        default=2,
        metavar="N",
        help="masks measured at a time (default: 2)",
    )


def _add_plugin_path(commands: Commands) -> None:
    parser = _add(
        commands,
        "plugin-path",
        "print the folder for nnUNet_extTrainer, where setting it by hand is wanted",
        'export nnUNet_extTrainer="$(unet3plus plugin-path)"',
    )
    parser.set_defaults(run=_run_plugin_path)


def _run_plugin_path(args: argparse.Namespace) -> int:
    print(plugin_folder())
    return 0


def plugin_folder() -> Path:
    """The one folder `nnUNet_extTrainer` has to point at."""
    return Path(nnunetv2_unet3plus.__path__[0]).resolve() / "nnunet_plugin"


def _add_doctor(commands: Commands) -> None:
    parser = _add(
        commands,
        "doctor",
        "show versions, device and variables, and whether nnU-Net finds the trainers (exit code 1 if not)",
        "unet3plus doctor",
    )
    parser.set_defaults(run=_run_doctor)


def _run_doctor(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.doctor import examine  # imports torch

    return examine()


_COMMANDS = (
    _add_demo,
    _add_convert,
    _add_plan,
    _add_prepare_scans,
    _add_restore_masks,
    _add_prune,
    _add_export,
    _add_benchmark,
    _add_report,
    _add_plugin_path,
    _add_doctor,
)


if __name__ == "__main__":
    sys.exit(main())
