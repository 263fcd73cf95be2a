from collections.abc import Callable
from pathlib import Path

import pytest

from nnunetv2_unet3plus import cli
from tests.conversion.sources import snapshot, tree


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's three folders in the test's own; returns the raw one."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = tmp_path / "nnunet" / name
        folder.mkdir(parents=True)
        monkeypatch.setenv(name, str(folder))
    return tmp_path / "nnunet" / "nnUNet_raw"


@pytest.fixture
def convert(raw: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Converts in this process, which must succeed without a word on stderr; returns the dataset's folder."""

    def run(source: Path, *options: str, folder: str = "Dataset501_LiTS", processes: int = 1) -> Path:
        before = snapshot(source)
        capsys.readouterr()
        code = cli.main(["convert", "lits", str(source), "-np", str(processes), *options])
        assert (code, capsys.readouterr().err) == (0, "")
        assert snapshot(source) == before
        return raw / folder

    return run


@pytest.fixture
def refuse(raw: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Converts, which must be refused in one line and change nothing at all; returns the line."""

    def run(source: Path, *options: str) -> str:
        before = (snapshot(source), tree(raw.parent))
        capsys.readouterr()
        code = cli.main(["convert", "lits", str(source), "-np", "1", *options])
        error = capsys.readouterr().err
        assert code == 2
        assert error.startswith("unet3plus: error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        assert (snapshot(source), tree(raw.parent)) == before
        return error

    return run
