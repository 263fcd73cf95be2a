"""Any task of the Medical Segmentation Decathlon with one channel, as an nnU-Net dataset.

    unet3plus convert msd SOURCE -d 4 --name Hippocampus
    python -m dataset_conversion.decathlon SOURCE -d 4 --name Hippocampus

SOURCE is the unpacked task, with `dataset.json`, `imagesTr` and `labelsTr`, perhaps `imagesTs`; it may lie in further
folders. Cases keep their names.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from nnunetv2_unet3plus.conversion.command import chosen_options, convert_as_asked
from nnunetv2_unet3plus.conversion.decathlon import find_task, read_description
from nnunetv2_unet3plus.conversion.description import Dataset
from nnunetv2_unet3plus.conversion.options import add_common_options, dataset_folder_name, wishes_of

SUMMARY = "a task of the Medical Segmentation Decathlon with one channel"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this converter's options to a parser."""
    add_common_options(parser, dataset_id=None, name=None)


def run(args: argparse.Namespace) -> int:
    """Converts, as the options say.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If the input cannot be used or the output not be written.
    """
    task = find_task(args.source)
    description = read_description(task.folder)
    training, tests = len(task.training), len(task.cases) - len(task.training)
    print(f"{task.folder}: {description.name}, {training} training cases, {tests} test scans")
    dataset = Dataset(
        folder_name=dataset_folder_name(args.dataset_id, args.name),
        source=args.source,
        cases=task.cases,
        scheme=description.scheme,
        channel=description.channel,
        options=chosen_options(args)
        | {"labels": json.dumps(dict(description.scheme.labels)), "channel": description.channel},
        about={
            "reference": description.reference,
            "license": description.licence,
            "converted_by": "unet3plus convert msd",
        },
        wishes=wishes_of(args),
        hidden=task.hidden,
    )
    return convert_as_asked(args, dataset)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this script; the same as `unet3plus convert msd`."""
    from nnunetv2_unet3plus import cli

    return cli.main(["convert", "msd", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
