"""Architecture kwargs as nnU-Net's planner writes them, for small networks."""

from torch import nn

NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
CONV = {2: nn.Conv2d, 3: nn.Conv3d}


def arch_kwargs(dims=2, encoder="plain", n_stages=5, anisotropic=False, width=8):
    """Kwargs of a plan; anisotropic: the first axis gets its kernels and strides two stages late."""
    kernels = [[3] * dims for _ in range(n_stages)]
    strides = [[1] * dims] + [[2] * dims for _ in range(n_stages - 1)]
    if anisotropic:
        for stage in range(min(2, n_stages - 1)):
            kernels[stage][0] = 1
            strides[stage + 1][0] = 1
    kwargs = {
        "n_stages": n_stages,
        "features_per_stage": [min(width * 2**i, 4 * width) for i in range(n_stages)],
        "conv_op": CONV[dims],
        "kernel_sizes": kernels,
        "strides": strides,
        "n_conv_per_stage_decoder": [1] * (n_stages - 1),
        "conv_bias": True,
        "norm_op": NORM[dims],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    per_stage = "n_conv_per_stage" if encoder == "plain" else "n_blocks_per_stage"
    return kwargs | {per_stage: [1] + [2] * (n_stages - 1)}


def input_size(kwargs, deepest=2):
    """An input whose deepest map has ``deepest`` voxels along the last axis and, to spare time, half along others."""
    dims = len(kwargs["strides"][0])
    size = [max(1, deepest // 2)] * (dims - 1) + [deepest]
    for stride in kwargs["strides"]:
        size = [n * s for n, s in zip(size, stride, strict=True)]
    return size
