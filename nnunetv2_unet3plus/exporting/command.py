"""`unet3plus export`: the network of a model folder, written, read back and compared."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch.export import ExportedProgram

from nnunetv2_unet3plus.conversion.atomic import publish, stage
from nnunetv2_unet3plus.errors import UserError, explain
from nnunetv2_unet3plus.exporting.portable import export_network
from nnunetv2_unet3plus.trained_network import Checkpoint, read_json

SUFFIX = ".pt2"
# Of the largest logit. The same sums in another order differ by far less; a wrong file differs by far more.
TOLERANCE = 1e-3


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    plans, dataset = (read_json(args.model_folder / name) for name in ("plans.json", "dataset.json"))
    path = _checkpoint_path(args.model_folder, args.fold, args.checkpoint)
    _require_new(args.output)
    checkpoint = Checkpoint.read(path)
    network = checkpoint.network(plans, dataset).eval()
    patch = _patch(plans, dataset, checkpoint.configuration, args.size)
    with _open_gates(network):
        expected = _segment(network, patch)
    program = export_network(network, patch)
    difference = _write(program, args.output, patch, expected)
    print(
        f"{args.output}: {checkpoint.trainer.__name__} on {checkpoint.configuration}, {path.parent.name}; takes "
        f"{tuple(patch.shape)}, gives logits {tuple(expected.shape)}. Read back, it differs from the network by "
        f"{difference:.1e} at most, where logits go up to {expected.abs().max():.1e}. "
        f'Run with: torch.export.load("{args.output}").module()(patch)'
    )
    return 0


def _checkpoint_path(folder: Path, fold: str | None, name: str) -> Path:
    """The checkpoint to export.

    Raises:
        UserError: if there is none, or several folds and none of them named.
    """
    folds = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{name}"))
    if not folds:
        raise UserError(f"{folder}: no fold_*/{name} in it; give a folder nnUNetv2_train has written, or another -chk")
    if fold is None and len(folds) == 1:
        (fold,) = folds
    if fold not in folds:
        problem = "several folds" if fold is None else f"no {name} of fold {fold}"
        raise UserError(f"{folder}: {problem}; give -f with one of {' '.join(folds)}")
    return folder / f"fold_{fold}" / name


def _require_new(output: Path) -> None:
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: an exported network is a {SUFFIX} file; give such a name with -o")
    if output.exists():
        raise UserError(f"{output}: exists already; give a new file with -o")


def _patch(plans: dict[str, Any], dataset: dict[str, Any], configuration: str, size: Sequence[int] | None) -> Tensor:
    """A patch of noise, `(1, C, *size)`.

    Raises:
        UserError: for a size of more or fewer axes than the plans' patches have.
    """
    manager = PlansManager(plans)
    configuration_manager = manager.get_configuration(configuration)
    planned = configuration_manager.patch_size
    size = size or planned
    if len(size) != len(planned):
        raise UserError(
            f"--size {_spaced(size)}: patches of {configuration} have {len(planned)} axes, as {_spaced(planned)}"
        )
    channels = determine_num_input_channels(manager, configuration_manager, dataset)
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))


def _segment(network: nn.Module, patch: Tensor) -> Tensor:
    """The network's logits.

    Raises:
        UserError: if it cannot take patches of this size.
    """
    try:
        with torch.no_grad():
            return network(patch)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--size {_spaced(patch.shape[2:])}: does not fit the network ({str(error).splitlines()[0]}); the plans' "
            "patch size does"
        ) from error


@contextmanager
def _open_gates(network: nn.Module) -> Iterator[None]:
    """Within, a classification gate lets everything through: of a patch of noise it might call all classes absent."""
    thresholds = [buffer for name, buffer in network.named_buffers() if name.endswith(".thresholds")]
    before = [buffer.clone() for buffer in thresholds]
    for buffer in thresholds:
        buffer.zero_()
    yield
    for buffer, value in zip(thresholds, before, strict=True):
        buffer.copy_(value)


def _write(program: ExportedProgram, output: Path, patch: Tensor, expected: Tensor) -> float:
    """Write the file, which appears complete and checked or not at all.

    Returns:
        The largest difference from the expected logits, after reading the file back.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, output) from error
    staged = stage(output, output.parent, lambda stream: _save(program, stream, output))
    try:
        with staged.open("rb") as stream:
            module = torch.export.load(stream).module()
        with torch.no_grad(), _open_gates(module):
            difference = (module(patch) - expected).abs().max().item()
        if not difference <= TOLERANCE * expected.abs().max().item():
            raise RuntimeError(f"{output}: what has been written differs from the network by {difference}")
        publish(staged, output)
    finally:
        staged.unlink(missing_ok=True)
    return difference


def _save(program: ExportedProgram, stream: BinaryIO, output: Path) -> None:
    try:
        torch.export.save(program, stream)
    except RuntimeError as error:  # what PyTorch's writer makes of a full disk
        raise UserError(f"{output}: could not be written; free some space, then run the same command again") from error


def _spaced(size: Sequence[int]) -> str:
    return " ".join(map(str, size))
