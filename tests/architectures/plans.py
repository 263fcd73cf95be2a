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


def input_size(kwargs, others=6):
    """An input with two voxels in the deepest map, which norms need, and few in all others, to spare time."""
    last = 1
    for stride in kwargs["strides"]:
        last *= stride[-1]
    if "n_blocks_per_stage" in kwargs:  # the shortcut of the last residual stage pools, and PyTorch wants two voxels
        others = max(others, last // 2 + 1)
    return [others] * (len(kwargs["strides"][0]) - 1) + [last + 1]


def plan_name(plan):
    return "-".join([f"{plan['dims']}d", plan["encoder"], str(plan["n_stages"])] + ["aniso"] * plan["anisotropic"])


def spread_of(tensor):
    return tensor.detach().abs().max().item() or 1.0
