import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnunetv2_unet3plus import cli, doctor
from nnunetv2_unet3plus.building_blocks import cpu_loops


def run(*arguments, **options):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["convert", "--help"], ["convert", "lits", "--help"], ["doctor", "-h"]]
)
def test_help_has_an_example(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 0
    assert "example:\n  unet3plus " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["convert"], ["nonsense"], ["plugin-path", "more"], ["convert", "lits"]])
def test_wrong_use_is_told_in_one_line(arguments, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("unet3plus: error: ")
    assert error.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = "import sys; from nnunetv2_unet3plus import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'SimpleITK', 'nibabel', 'nnunetv2'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_plugin_path(capsys):
    assert cli.main(["plugin-path"]) == 0
    path = Path(capsys.readouterr().out.rstrip("\n"))
    assert path.is_absolute()
    assert path.parts[-2:] == ("nnunetv2_unet3plus", "nnunet_plugin")
    assert path.is_dir()


def test_error_messages_stay_on_one_line(tmp_path, capsys):
    assert cli.main(["convert", "lits", str(tmp_path / "two\nlines")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_modules_run_as_commands(tmp_path):
    for module in (["nnunetv2_unet3plus.cli", "convert", "lits"], ["dataset_conversion.Dataset501_LiTS"]):
        finished = run(*module, str(tmp_path / "nowhere"), "--output", str(tmp_path))
        assert (finished.returncode, finished.stdout) == (2, "")
        assert finished.stderr == f"unet3plus: error: {tmp_path / 'nowhere'}: no such folder\n"


PLUGIN = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
class nnUNetTrainerUNet3Plus(nnUNetTrainer):
    pass
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    folder = tmp_path / "plugin"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    return folder


def test_doctor_when_all_is_well(plugin, tmp_path, monkeypatch, capsys):
    (plugin / "doctor_test_plugin.py").write_text(PLUGIN)
    for variable in ("CC", cpu_loops.SWITCH):
        monkeypatch.delenv(variable, raising=False)
    cpu_loops.compiled_or_why_not.cache_clear()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "gone"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    assert cli.main(["doctor"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"] == torch.__version__.partition("+")[0]
    without = "none, the CPU will be slower: no C compiler 'cc' found"
    assert lines["cpu_loops"] == ("compiled" if shutil.which("cc") else without)
    assert lines["nnUNet_raw"] == str(tmp_path)
    assert lines["nnUNet_results"] == f"{tmp_path / 'gone'} (no such folder)"
    assert lines["nnUNet_preprocessed"].startswith("not set")
    assert lines["nnUNet_extTrainer"] == str(plugin)
    assert lines[doctor.TRAINER] == "found: doctor_test_plugin"


@pytest.mark.parametrize("content", ["", "raise ValueError('broken\\nplugin')", "class nnUNetTrainerUNet3Plus: pass"])
def test_doctor_when_the_trainer_is_not_found(content, plugin, capsys):
    (plugin / "doctor_test_plugin.py").write_text(content)
    assert cli.main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert f"{doctor.TRAINER} NOT found by nnU-Net: " in captured.out
    assert "Traceback" not in captured.out + captured.err
