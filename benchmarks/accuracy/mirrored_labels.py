"""How often a converter notices that a label is mirrored, and how often it says so of one that is not.

    python -m benchmarks.accuracy.mirrored_labels /path/to/LiTS --scan IMAGE MASK LABEL --scan ...

Every label is looked at as it is and mirrored in all seven ways.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np

from dataset_conversion.Dataset501_LiTS import find_cases
from nnunetv2_unet3plus.conversion.flips import find_flip


def main() -> None:
    """Look and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="CT in LiTS layout")
    parser.add_argument("--scan", nargs=3, action="append", default=[], metavar=("IMAGE", "MASK", "LABEL"))
    args = parser.parse_args()
    noticed = false_alarms = labels = 0
    for name, image, organ, axes in organs(args.source, args.scan):
        ways = [tuple(axis for axis, flip in enumerate(flips) if flip) for flips in product((False, True), repeat=3)]
        found = [find_flip(image, np.flip(organ, way), axes) is not None for way in ways]
        print(f"{name}: {'false alarm' if found[0] else 'silent as it is'}, {sum(found[1:])} of 7 noticed")
        labels, noticed, false_alarms = labels + 1, noticed + sum(found[1:]), false_alarms + found[0]
    print(f"{noticed} of {7 * labels} mirrored labels noticed, {false_alarms} of {labels} right ones called mirrored")


def organs(source: Path, scans: list[list[str]]) -> Iterator[tuple[str, np.ndarray, np.ndarray, str]]:
    """Name, image, organ and axes of every label."""
    files = [
        (case.name, case.image.path, case.label.path, None)
        for case in find_cases(source).cases
        if case.label is not None
    ]
    files += [(f"{mask} {label}", Path(image), Path(mask), int(label)) for image, mask, label in scans]
    for name, image_file, mask_file, value in files:
        image, mask = nib.load(image_file), nib.load(mask_file)
        voxels, organ = np.asanyarray(image.dataobj), np.asanyarray(mask.dataobj)
        axes = "".join(nib.aff2axcodes(mask.affine))
        yield name, voxels, organ > 0 if value is None else organ == value, axes


if __name__ == "__main__":
    main()
