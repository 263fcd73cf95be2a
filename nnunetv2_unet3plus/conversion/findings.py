"""What is found wrong with the files of a case, and what becomes of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nnunetv2_unet3plus.errors import UserError

Kind = Literal["repaired", "warning", "refused"]


@dataclass(frozen=True)
class Finding:
    """One fault of one file.

    Attributes:
        kind: "repaired" (what is written differs from the source), "warning" (written as it is, to be looked at) or
            "refused" (the case is not written).
        about: "image" or "label".
        fault: its name, the same for all cases that have it.
        text: what exactly, and what to do; holds no path and no name, so that reports can be passed on.
        shown: more of it for the user at the prompt alone, such as names that may tell who a patient is.
    """

    kind: Kind
    about: str
    fault: str
    text: str
    shown: str = ""

    @property
    def reported(self) -> dict[str, str]:
        """What may be passed on."""
        return {key: value for key, value in asdict(self).items() if key != "shown"}


class FaultyFileError(UserError):
    """A source file that cannot be converted; the other cases can.

    Attributes:
        finding: the same for the report.
    """

    def __init__(self, path: Path, about: str, fault: str, text: str, shown: str = "") -> None:
        """Name the file and say what is wrong with it.

        Args:
            path: the file, for the user at the prompt.
            about: see `Finding`.
            fault: see `Finding`.
            text: see `Finding`.
            shown: see `Finding`.
        """
        super().__init__(f"{path}: {text}{shown}")
        self.finding = Finding("refused", about, fault, text, shown)
