"""Measure the masks of one trainer of a benchmark, so that the report finds it done.

python -m nnunetv2_unet3plus.benchmarking.measure_model OUTPUT nnUNetTrainerUNet3Plus
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from nnunetv2_unet3plus.benchmarking.collect import MEASURES_FOLDER, of_request
from nnunetv2_unet3plus.benchmarking.measures.cohort import measure_cases
from nnunetv2_unet3plus.benchmarking.request import Request


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="of unet3plus benchmark")
    parser.add_argument("trainer")
    parser.add_argument("-np", dest="processes", type=int, default=2)
    args = parser.parse_args()
    request = replace(Request.read(args.output), trainers=(args.trainer,))
    for candidate in of_request(request, None, [], args.output, []):
        labels = candidate.model.labels
        measure_cases(candidate.pairs, labels, args.output / MEASURES_FOLDER, args.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
