"""How long a training will take: an estimate from its arithmetic, not measured here.

A training batch is three forward passes' work (backward is two of them), a validation batch one. A GPU does not reach
its peak on such networks; what it does reach is calibrated on times that nnU-Net's authors published
(`python -m benchmarks.hours_calibration` makes these figures again):

- A100, 3D: documentation/resenc_presets.md gives hours for a training of 1000 epochs, the mean of six data sets; GFLOP
  and batch are those of nnU-Net's plans for them.

    preset     GFLOP a batch   published, h   TFLOP/s   estimate, h
    default             2124              9      52.4           7.9
    ResEncM             3209             12      59.4          12.0
    ResEncL            10463             35      66.4          39.0
    ResEncXL           18106             66      61.0          67.5

- 2D, and other GPUs: documentation/expected_epoch_times.md, of nnU-Net v1, gives seconds an epoch for three data sets.
  Its software was slower by 1.7; only ratios are taken from it: of a V100 (0.51 to 0.57) and an RTX 2080 Ti (0.34 to
  0.43) to an A100, and of 2D to 3D (0.80 to 0.98).

The estimate is within 12 % of the four presets it was made from. It is for networks like nnU-Net's own: those with more
interpolation, concatenation and normalisation for each multiplication, as UNet 3+ and UNet#, may well take longer, and
so may 2D trainings whose augmentation the CPU cannot keep up with.
"""

TERAFLOPS = {"A100": 59.6, "V100": 31.8, "RTX 2080 Ti": 23.4}
"""What 3D trainings in mixed precision reach, in 1e12 operations a second."""

IN_PLANE = 0.87
"""What 2D trainings reach of that."""

FORWARDS_PER_TRAINING_STEP = 3


def expected_hours(
    gflop_per_patch: float,
    batch_size: int,
    epochs: int,
    iterations: int,
    validation_iterations: int,
    teraflops: float,
) -> float:
    """Hours of one fold's training, without the prediction of its validation scans.

    Args:
        gflop_per_patch: of the forward pass, in 1e9.
        batch_size: patches.
        epochs: of the training.
        iterations: training batches an epoch.
        validation_iterations: validation batches an epoch.
        teraflops: what the GPU reaches, see `TERAFLOPS`; times `IN_PLANE` for 2D networks, 2.5D included.
    """
    forwards = FORWARDS_PER_TRAINING_STEP * iterations + validation_iterations
    return epochs * forwards * batch_size * gflop_per_patch / (1e3 * teraflops) / 3600
