"""`unet3plus plan`: plans for a network of ours within the memory there is."""

import argparse
import re
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object
from nnunetv2_unet3plus.nnunet_folders import dataset_name, dataset_number, require_set
from nnunetv2_unet3plus.planning.memory import PLANNED_WITH
from nnunetv2_unet3plus.planning.networks import PlannableNetwork, plannable_network
from nnunetv2_unet3plus.planning.planner import CONFIGURATIONS, NetworkPlanner, ResidualNetworkPlanner
from nnunetv2_unet3plus.planning.preprocessed import STOCK_PLANS
from nnunetv2_unet3plus.planning.summary import summary

DEFAULT_VRAM = {None: 8.0, "M": 8.0, "L": 24.0, "XL": 40.0}  # nnU-Net's presets
_NEEDS = {"2.5d": ("2d",), "3d_cascade_fullres": ("3d_fullres", "3d_lowres")}
_SMALLEST_PATCH = 16
_KEYS_OF_DATASET = ("labels", "numTraining", "file_ending")
_KEYS_OF_FINGERPRINT = (
    "spacings",
    "shapes_after_crop",
    "foreground_intensity_properties_per_channel",
    "median_relative_size_after_cropping",
)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    network = plannable_network(args.network)
    vram = _vram(args)
    configurations = _configurations(args.configurations, network)
    in_plane = _in_plane(args.patch_size, configurations)
    if args.residual_encoder and network.own_encoder:
        raise UserError(f"--residual-encoder {args.residual_encoder}: {args.network} has an encoder of its own")
    dataset = _dataset(args.dataset)
    name = _name(args.name) or default_name(network, args.residual_encoder, vram)
    plans_file = Path(nnUNet_preprocessed) / dataset / f"{name}.json"
    planned_with = {
        "network": args.network,
        "vram": vram,
        "residual_encoder": args.residual_encoder,
        "patch_size": args.patch_size,
    }
    _require_ours(plans_file, planned_with)
    _fingerprint(dataset)

    planner = (ResidualNetworkPlanner if args.residual_encoder else NetworkPlanner)(
        dataset,
        vram,
        plans_name=name,
        network=network,
        configurations=configurations,
        require_all=args.configurations is not None,
        in_plane=in_plane,
        planned_with=planned_with,
    )
    print(f"{dataset}: planning for {network.network_class.__name__} ...", flush=True)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # nnU-Net prints whole plans, and tracebacks
            planner.plan_experiment()
    except RuntimeError as error:  # no reader for the first image
        raise UserError(f"{dataset}: {error}") from error
    print(summary(PlansManager(str(plans_file)), planner))
    return 0


def default_name(network: PlannableNetwork, residual_encoder: str | None, vram: float) -> str:
    """Of the plans; the GB are part of it unless they are the default, so that both can stand side by side."""
    name = network.plans_name(residual_encoder)
    return name if vram == DEFAULT_VRAM[residual_encoder] else f"{name}_{vram:g}G"


def _name(name: str | None) -> str | None:
    """It becomes part of a folder's name, TRAINER__PLANS__CONFIGURATION, which nnU-Net takes apart again."""
    if name is not None and (not re.fullmatch(r"[\w.-]+", name) or "__" in name):
        raise UserError(f"--name {name}: letters, digits, '-', '.' and single '_' alone")
    return name


def _vram(args: argparse.Namespace) -> float:
    vram = DEFAULT_VRAM[args.residual_encoder] if args.vram is None else args.vram
    if not 0 < vram < float("inf"):
        raise UserError(f"--vram {vram:g}: GB of the GPU's memory, more than 0")
    return vram


def _configurations(wanted: Sequence[str] | None, network: PlannableNetwork) -> list[str]:
    """In the order nnU-Net and we know them; all that the network is made for if none are named."""
    if wanted is None:
        return [name for name in CONFIGURATIONS if not (network.planar and name.startswith("3d"))]
    for name in wanted:
        if network.planar and name.startswith("3d"):
            raise UserError(f"--configurations {name}: {network.network_class.__name__} is a 2D network")
        if missing := [needed for needed in _NEEDS.get(name, ()) if needed not in wanted]:
            raise UserError(f"--configurations {name}: is built on {' and '.join(missing)}, name that as well")
    return [name for name in CONFIGURATIONS if name in wanted]


def _in_plane(patch_size: Sequence[int] | None, configurations: Sequence[str]) -> tuple[int, ...] | None:
    if patch_size is None:
        return None
    asked = " ".join(map(str, patch_size))
    if min(patch_size) < _SMALLEST_PATCH:
        raise UserError(f"--patch-size {asked}: at least {_SMALLEST_PATCH} along each axis, so that it can be pooled")
    if "2d" not in configurations:
        raise UserError(f"--patch-size {asked}: is that of 2d and 2.5d, none of which is among --configurations")
    return tuple(patch_size)


def _dataset(name_or_number: str) -> str:
    """The dataset's folder name.

    Raises:
        UserError: for folders that are not set, and for no dataset or several.
    """
    require_set(nnUNet_raw, nnUNet_preprocessed)
    name = dataset_name(name_or_number, Path(nnUNet_raw))
    file, hint = Path(nnUNet_raw) / name / "dataset.json", "correct it by hand or convert the dataset again"
    if not {"channel_names", "modality"} & read_object(file, hint, _KEYS_OF_DATASET).keys():
        raise UserError(f"{file}: channel_names missing; {hint}")
    return name


def _require_ours(plans_file: Path, planned_with: dict[str, Any]) -> None:
    """Plans of nnU-Net's own planners stay, and no file may hold two plans: nnU-Net keeps what is not planned anew."""
    if plans_file.stem == STOCK_PLANS:
        raise UserError(f"--name {STOCK_PLANS}: is the name of nnU-Net's own plans; choose another")
    if not plans_file.exists():
        return
    before = read_object(plans_file, "remove it or choose another --name").get(PLANNED_WITH)
    if before is None:
        raise UserError(f"{plans_file}: not written by this command; choose another --name")
    if before != planned_with:
        options = ", ".join(f"{key} {value}" for key, value in before.items() if value is not None)
        raise UserError(f"{plans_file}: was planned with {options}; remove it or choose another --name")


def _fingerprint(dataset: str) -> None:
    """Read the fingerprint, have nnU-Net make it where there is none."""
    file = Path(nnUNet_preprocessed) / dataset / "dataset_fingerprint.json"
    hint = f"run nnUNetv2_extract_fingerprint -d {dataset_number(dataset)} --clean"
    if not file.exists():
        try:
            extract_fingerprint_dataset(dataset_number(dataset))
        except (RuntimeError, AssertionError, ValueError, KeyError, IndexError) as error:
            check = f"nnUNetv2_extract_fingerprint -d {dataset_number(dataset)} --verify_dataset_integrity"
            raise UserError(f"{dataset}: nnU-Net cannot read it ({error}); {check} says more") from error
    read_object(file, hint, _KEYS_OF_FINGERPRINT)
