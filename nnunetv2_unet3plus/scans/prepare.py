"""From a folder of new scans to one that `nnUNetv2_predict` reads."""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from nnunetv2_unet3plus.conversion.atomic import publish, stage, write_text
from nnunetv2_unet3plus.conversion.case import Outcome, read_case
from nnunetv2_unet3plus.conversion.description import LabelScheme, Wishes
from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.hospital.organs import says_mask
from nnunetv2_unet3plus.conversion.nifti import write_nifti
from nnunetv2_unet3plus.conversion.report import refusal, summary
from nnunetv2_unet3plus.conversion.target import check_outside
from nnunetv2_unet3plus.conversion.workers import results_of
from nnunetv2_unet3plus.dicom.series import DicomSeries
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.scans.find import Scan, find_scans
from nnunetv2_unet3plus.scans.folder import filling

KEY = "scans.json"

_NO_LABELS = LabelScheme({}, ())


def run(args: argparse.Namespace) -> int:
    """Prepares, as the options say.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If a scan cannot be used or the output not be written.
    """
    check_outside(args.output, args.scans)
    scans = find_scans(args.scans)
    with filling(args.output) as staging:
        prepare = partial(_prepare, folder=args.output, staging=staging, wishes=Wishes(axes=args.orientation))
        results = results_of(prepare, scans, args.processes)
        outcomes = sorted(tqdm(results, "preparing", len(scans), unit="scan", disable=None), key=lambda each: each.case)
        for line in summary(outcomes, anonymous=True):
            print(line)
        if (reason := refusal(outcomes, len(scans))) is not None and not args.leave_out_refused:
            raise UserError(reason)
        refused = {outcome.case for outcome in outcomes if outcome.refusal is not None}
        prepared = [scan for scan in scans if scan.case.name not in refused]
        if not prepared:
            raise UserError(f"{args.scans}: no scan could be prepared; correct what was refused above")
        names = {f"{scan.case.name}_0000.nii.gz" for scan in prepared}
        for path in args.output.glob("scan_*_0000.nii.gz"):  # an earlier run, of more scans, may have been stopped
            if path.name not in names:
                path.unlink()
        write_text(args.output / KEY, staging, _key(prepared, args.scans, args.orientation))
    print(
        f"{args.output} holds {len(prepared)} scans. Next: nnUNetv2_predict -i {args.output} -o MASKS ..., then "
        f"unet3plus restore-masks MASKS --scans {args.output} -o RESTORED"
    )
    return 0


def _prepare(scan: Scan, folder: Path, staging: Path, wishes: Wishes) -> Outcome:
    """Writes one scan; intensities stay as they are."""
    findings = _named_as_mask(scan)
    path = folder / f"{scan.case.name}_0000.nii.gz"
    path.unlink(missing_ok=True)  # of an earlier run that was stopped
    try:
        voxels, _, geometry = read_case(scan.case, _NO_LABELS, wishes, findings)
    except FaultyFileError as error:
        return Outcome(scan.case.name, (*findings, error.finding), str(error))
    if isinstance(scan.case.image, DicomSeries):
        findings += _unreferable(scan.case.image)
    publish(stage(path, staging, lambda stream: write_nifti(stream, voxels, geometry)), path)
    return Outcome(scan.case.name, tuple(findings))


def _named_as_mask(scan: Scan) -> list[Finding]:
    if scan.slices or not says_mask(scan.mask.stem):
        return []
    text = "named as a mask, prepared as a scan: move it away if it is one"
    return [Finding("warning", "image", "mask?", text, f": {scan.mask}")]


def _unreferable(series: DicomSeries) -> list[Finding]:
    """Better told before nnU-Net works on it than after."""
    from nnunetv2_unet3plus.dicom.write_segmentation import check_referable

    try:
        check_referable(series)
    except UserError as error:
        text = "restore-masks will not be able to make a DICOM-SEG for it; prepare it as a NIfTI file for that"
        return [Finding("warning", "image", "no DICOM-SEG", text, f" ({error})")]
    return []


def _key(scans: Sequence[Scan], source: Path, axes: str | None) -> str:
    """What each scan was: for `restore`, and for who wants to know."""
    entries = {
        scan.case.name: {
            "scan": str(scan.case.image.path.relative_to(source)),
            "slices": [str(path.relative_to(source)) for path in scan.slices],
            "mask": str(scan.mask),
        }
        for scan in scans
    }
    content = {"source": str(source.resolve()), "orientation": axes, "scans": entries}
    return json.dumps(content, indent=4, ensure_ascii=False)
