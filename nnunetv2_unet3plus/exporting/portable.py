"""A network as a program of PyTorch's own operators, which runs where this package is not installed.

`torch.export` records our operators by name, and a process that does not know the name cannot load the file. So each of
them is replaced by what it computes, written in PyTorch's operators: without their gradients, and without loops that
write into a result, since an exported program is functional.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks import winograd  # noqa: F401 - defines an operator
from nnunetv2_unet3plus.building_blocks.resize_conv import mix_channels
from nnunetv2_unet3plus.building_blocks.tap_matrix import blocks_of_rows, tap_matrix
from nnunetv2_unet3plus.errors import UserError

NAMESPACE = "nnunetv2_unet3plus"


def export_network(network: nn.Module, x: Tensor) -> ExportedProgram:
    """Export a network in evaluation mode, for inputs as large as an example.

    Args:
        network: in evaluation mode, without deep supervision. A gated network decodes every patch and applies its gate
            to what it has decoded: whether to decode at all is no part of a graph.
        x: an example of the input, `(B, C, *size)`, on the network's device.

    Returns:
        The program, for `torch.export.save`; `.module()` is the network, for inputs of exactly this shape.

    Raises:
        UserError: if the network has operators that are neither PyTorch's nor ours.
    """
    with torch.no_grad():
        program = torch.export.export(network, (x,)).run_decompositions(_plain_forms())
    if foreign := _operators(program) - {"aten", "prim", "prims"}:
        raise UserError(
            f"{type(network).__name__} computes with operators of {', '.join(sorted(foreign))}, which PyTorch alone "
            "does not have: export a network without them"
        )
    return program


def _operators(program: ExportedProgram) -> set[str]:
    """The libraries whose operators the program calls."""
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    targets = [node.target for graph in graphs for node in graph.nodes]
    return {target.namespace for target in targets if isinstance(target, torch._ops.OpOverload)}


def _plain_forms() -> dict[torch._ops.OperatorBase, Callable]:
    operators = getattr(torch.ops, NAMESPACE)
    return {
        operators.interpolate_taps.default: _interpolate_taps,
        operators.resize_conv_by_tiles.default: _resize_conv,
        operators.winograd_conv2d.default: _winograd_conv2d,
    }


def _winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.conv2d(x, weight, bias, padding=1)


def _resize_conv(x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int]) -> Tensor:
    y = mix_channels(x, weight, bias, range(len(size)))
    return _interpolate_taps(y, size, weight.shape[2:])


def _interpolate_taps(y: Tensor, size: Sequence[int], taps: Sequence[int]) -> Tensor:
    """See `resize_conv.interpolate_taps`; the matrices' bands are multiplied one by one and concatenated."""
    grid, dims = y.shape[2:], len(size)
    y = y.unflatten(1, (*taps, y.shape[1] // prod(taps)))
    # (B, *taps, O, *grid) -> (B, O, n1 * taps1, n2 * taps2, ...), what the columns of the matrices are
    y = y.permute(0, 1 + dims, *(i for axis in range(dims) for i in (2 + dims + axis, 1 + axis)))
    y = y.reshape(*y.shape[:2], *(n * k for n, k in zip(grid, taps, strict=True)))
    for axis in reversed(range(dims)):
        if (grid[axis], taps[axis]) != (size[axis], 1):
            y = _along_axis(y, 2 + axis, grid[axis], size[axis], taps[axis])
    return y


def _along_axis(y: Tensor, axis: int, n: int, m: int, taps: int) -> Tensor:
    """Multiply an axis of `n * taps` rows by its matrix, to `m` rows."""
    matrix = tap_matrix(n, m, taps, y.dtype, y.device)
    before, after = y.shape[:axis], y.shape[axis + 1 :]
    y = y.reshape(prod(before), n * taps, prod(after))
    bands = [
        _product(matrix[start:stop, first:last], y[:, first:last])
        for start, stop, first, last in blocks_of_rows(n, m, taps, on_gpu=y.is_cuda)
    ]
    return torch.cat(bands, dim=1).reshape(*before, m, *after)


def _product(band: Tensor, x: Tensor) -> Tensor:
    """`band @ x` for `x` of shape `(outer, columns, inner)`."""
    if x.shape[2] == 1:  # one matrix product instead of many matrix-vector products
        return (x[:, :, 0] @ band.T).unsqueeze(2)
    return band @ x
