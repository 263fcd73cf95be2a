"""Measures that were taken before."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from nnunetv2_unet3plus.benchmarking.results import MEASURES, CasePair, Labels
from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import UserError, explain

VERSION = 1
"""To be raised when a measure is computed in another way: what was measured before is then measured again."""

KEEP_EVERY = 20
"""Seconds."""

Figures = dict[str, dict[str, float]]


class Stamp(NamedTuple):
    """What changes when a file does: its size in bytes and its time of modification in ns."""

    size: int
    modified: int


def stamp_of(path: Path) -> Stamp:
    """A file's stamp.

    Raises:
        OSError: If it cannot be asked for.
    """
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


class Cache:
    """A model's measures in a file of JSON.

    A scan's measures are found again as long as the stamps of its two files are the same; where the files are does not
    matter, so results may be moved.

    Attributes:
        problem: why the file could not be written, a line; that costs time at the next report, and ends nothing.
    """

    def __init__(self, folder: Path, model: str, labels: Labels) -> None:
        """Reads what there is; a file that is damaged or about other classes or measures counts as none."""
        self._path = folder / f"{quote(model, safe=' ()+')}.json"
        self._about: dict[str, Any] = {
            "version": VERSION,
            "measures": list(MEASURES),
            "labels": {label: list(values) for label, values in labels.values.items()},
            "ignore": labels.ignore,
        }
        self._scans: dict[str, dict[str, Any]] = {}
        self._written = time.monotonic()
        self._changed = False
        self.problem: str | None = None
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if {key: content[key] for key in self._about} == self._about:
                self._scans = dict(content["scans"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def get(self, pair: CasePair, stamps: tuple[Stamp, Stamp]) -> Figures | None:
        """The measures of a scan, unless they have to be taken: label -> measure -> figure."""
        try:
            scan = self._scans[_key(pair)]
            if scan["stamps"] != [list(stamp) for stamp in stamps]:
                return None
            return {
                label: dict(zip(MEASURES, map(float, scan["figures"][label]), strict=True))
                for label in self._about["labels"]
            }
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, pair: CasePair, stamps: tuple[Stamp, Stamp], figures: Figures) -> None:
        """Keeps the measures of a scan; writes them if that was not done for a while."""
        self._scans[_key(pair)] = {
            "stamps": [list(stamp) for stamp in stamps],
            "figures": {label: list(measures.values()) for label, measures in figures.items()},
        }
        self._changed = True
        if time.monotonic() - self._written >= KEEP_EVERY:
            self.write()

    def write(self) -> None:
        """Writes what has changed, if anything."""
        if not self._changed:
            return
        self._changed, self._written, self.problem = False, time.monotonic(), None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, self._path.parent, json.dumps({**self._about, "scans": self._scans}))
        except OSError as error:
            self.problem = str(explain(error, self._path))
        except UserError as error:
            self.problem = str(error)


def _key(pair: CasePair) -> str:
    return f"{pair.split}/{pair.fold}/{pair.case}"
