"""Fixed splits into training and held-out cases."""

from collections.abc import Sequence

from nnunetv2_unet3plus.conversion.description import Splits


def spread_split(names: Sequence[str], held_out: int) -> Splits:
    """One fold whose held-out cases lie evenly spread over the given order.

    Collections are numbered by where the scans came from, so an even spread gives both parts their share of every
    source. No random numbers: the split is the same on every machine and can be checked by hand. Case k of n is held
    out if the whole part of (k + 1) * held_out / n is larger than that of k * held_out / n.

    Args:
        names: Case identifiers in their order.
        held_out: How many of them go into `val`.

    Returns:
        nnU-Net's `splits_final.json` with one fold.
    """
    total = len(names)
    is_held_out = [(k + 1) * held_out // total > k * held_out // total for k in range(total)]
    return [
        {
            "train": [name for name, out in zip(names, is_held_out, strict=True) if not out],
            "val": [name for name, out in zip(names, is_held_out, strict=True) if out],
        }
    ]
