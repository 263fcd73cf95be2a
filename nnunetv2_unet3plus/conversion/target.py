"""The dataset folder that is written: its names, its state, and when it must not be touched.

While a conversion is going on, the folder holds three hidden entries: a marker file with the options chosen, the
staging folder, and what was found in the cases that are finished. A dataset is complete when `dataset.json` is there
and the marker is gone.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.conversion.description import Case
from nnunetv2_unet3plus.errors import UserError, explain


@dataclass(frozen=True)
class TargetFolder:
    """An nnU-Net raw dataset folder."""

    folder: Path

    @property
    def marker(self) -> Path:
        """Says that the conversion is not finished, and with which options it was begun."""
        return self.folder / ".unfinished.json"

    @property
    def staging(self) -> Path:
        """Where files are written before they are moved into their place."""
        return self.folder / ".staging"

    @property
    def dataset_json(self) -> Path:
        """nnU-Net's description of the dataset."""
        return self.folder / "dataset.json"

    @property
    def report(self) -> Path:
        """What was repaired, suspected and refused."""
        return self.folder / "conversion_report.json"

    @property
    def findings(self) -> Path:
        """Where the findings of each finished case wait for the report."""
        return self.folder / ".findings"

    @property
    def case_folders(self) -> tuple[Path, ...]:
        """The folders the cases are in."""
        return tuple(self.folder / name for name in ("imagesTr", "labelsTr", "imagesTs"))

    def image_path(self, case: Case) -> Path:
        """Where the case's image belongs."""
        return self.folder / ("imagesTs" if case.label is None else "imagesTr") / f"{case.name}_0000.nii.gz"

    def label_path(self, case: Case) -> Path:
        """Where the case's label belongs, if it has one."""
        return self.folder / "labelsTr" / f"{case.name}.nii.gz"

    def findings_path(self, case: Case) -> Path:
        """Where the findings of a finished case are."""
        return self.findings / f"{case.name}.json"

    def remove(self, case: Case) -> None:
        """Takes away what an earlier run has written of a case that is refused now."""
        for path in (self.label_path(case), self.image_path(case), self.findings_path(case)):
            path.unlink(missing_ok=True)

    def is_finished(self, case: Case) -> bool:
        """Whether the case is in place, made of the very files that are its sources now."""
        try:
            sources = json.loads(self.findings_path(case).read_text())["sources"]
        except (OSError, ValueError, LookupError, TypeError):
            return False
        written = [self.image_path(case)] + ([] if case.label is None else [self.label_path(case)])
        return sources == stamps_of(case) and all(path.exists() for path in written)

    def check(self, options: Mapping[str, str], cases: Iterable[Case]) -> None:
        """Checks that the folder is free, or holds the beginning of this very conversion.

        Raises:
            UserError: If it holds a complete dataset, other files, or was begun with other options.
        """
        found = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if self.marker.name in found:
            self._check_options(options)
            self._check_strangers(cases)
        elif self.dataset_json.name in found:
            raise UserError(f"{self.folder} is there and complete; delete it, or choose another -d and --name")
        elif found - {self.staging.name}:
            raise UserError(f"{self.folder} holds other files; move it away, or choose another -d and --name")

    def _check_options(self, options: Mapping[str, str]) -> None:
        try:
            begun = json.loads(self.marker.read_text())
            if not isinstance(begun, dict):
                raise ValueError("not the options of a conversion")
        except ValueError as error:
            raise UserError(f"{self.marker} is damaged; delete {self.folder} and start again") from error
        for key in sorted(options.keys() | begun.keys()):
            if options.get(key) != begun.get(key):
                raise UserError(
                    f"{self.folder} is unfinished and was begun with {key} = {begun.get(key)}, not {options.get(key)}; "
                    "repeat the first command to finish it, or delete that folder"
                )

    def _check_strangers(self, cases: Iterable[Case]) -> None:
        cases = list(cases)
        ours = {self.image_path(case) for case in cases} | {self.label_path(case) for case in cases}
        for folder in self.case_folders:
            for path in folder.glob("[!.]*"):
                if path not in ours:
                    raise UserError(f"{path} belongs to no case of the source; delete {self.folder} and start again")

    @contextmanager
    def unfinished(self, options: Mapping[str, str]) -> Iterator[None]:
        """Holds the folder for one conversion: marks it as unfinished, empties the staging folder, cleans up.

        Leaving the block normally makes the dataset complete. Leaving it by an error keeps the finished cases for the
        next run; without any, nothing remains.

        Raises:
            UserError: If the folder cannot be written or another conversion is writing it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder):
                try:
                    self._begin(options)
                    yield
                except BaseException:
                    self._retreat()
                    raise
                shutil.rmtree(self.staging)
                shutil.rmtree(self.findings)
                self.marker.unlink()
        except OSError as error:
            raise explain(error) from error

    def _begin(self, options: Mapping[str, str]) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()
        write_text(self.marker, self.staging, json.dumps(dict(options), indent=4))
        for folder in (*self.case_folders, self.findings):
            folder.mkdir(exist_ok=True)

    def _retreat(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        if self.report.exists() or any(any(folder.glob("*")) for folder in self.case_folders):
            return
        with suppress(OSError):
            shutil.rmtree(self.findings, ignore_errors=True)
            for folder in self.case_folders:
                folder.rmdir()
            self.marker.unlink()
            self.folder.rmdir()


def stamps_of(case: Case) -> list[list[int]]:
    """What tells the source files from any that replace them, be those older or newer; no names."""
    stats = [path.stat() for volume in case.volumes for path in volume.files]
    return [[stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for stat in stats]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock, which the operating system drops when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{folder}: another conversion is writing here; wait for it to end") from error
    except OSError:
        pass  # a file system without locks; they are a courtesy, no file depends on them


def check_free_id(folder_name: str, roots: Iterable[Path]) -> None:
    """Checks that no other dataset has the same number; nnU-Net stops when one number has two names.

    Args:
        folder_name: Such as `Dataset501_LiTS`.
        roots: nnU-Net's raw, preprocessed and results folders; missing ones are fine.

    Raises:
        UserError: If the number is taken.
    """
    prefix = folder_name.partition("_")[0]
    for root in roots:
        for path in sorted(root.glob(f"{prefix}*")):
            if path.name != folder_name and path.is_dir():
                raise UserError(f"{path} already has the number of {folder_name}; choose another -d, or --name")


def check_outside(written: Path, folder: Path, option: str = "--output") -> None:
    """Checks that what is written and a folder that must stay as it is do not lie inside one another.

    Args:
        written: The folder or file to be written.
        folder: The other.
        option: What the user can change.

    Raises:
        UserError: If one lies inside the other.
    """
    inner, outer = written.resolve(), folder.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"{written} and {folder} lie inside one another; choose another {option}")
