import json
from collections.abc import Callable, Sequence
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


def refused_line(source: Path, options: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Converts, which must end with exit code 2 and one line, the source untouched; the line."""
    before = snapshot(source)
    capsys.readouterr()
    code = cli.main(["convert", "lits", str(source), "-np", "1", *options])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("unet3plus: error: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")
    assert snapshot(source) == before
    return error


@pytest.fixture
def refuse(raw: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Converts, which must be refused in one line and change nothing at all; returns the line."""

    def run(source: Path, *options: str) -> str:
        before = tree(raw.parent)
        error = refused_line(source, options, capsys)
        assert tree(raw.parent) == before
        return error

    return run


@pytest.fixture
def refuse_case(raw: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Converts, which must stop at one case in one line and convert the others; returns the line."""

    def run(source: Path, *options: str, case: str = "liver_001") -> str:
        error = refused_line(source, options, capsys)
        folder = raw / "Dataset501_LiTS"
        report = json.loads((folder / "conversion_report.json").read_text())["cases"]
        converted = {name for name, entry in report.items() if entry["converted"]}
        assert converted == set(report) - {case}
        assert {path.name for path in folder.glob("labelsTr/*")} == {f"{name}.nii.gz" for name in converted}
        assert {path.name for path in folder.glob("imagesTr/*")} == {f"{name}_0000.nii.gz" for name in converted}
        assert report[case]["findings"][-1]["kind"] == "refused"
        assert not (folder / "dataset.json").exists()
        return error

    return run
