import sys

import pytest

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.demo.pipeline import Demo
from nnunetv2_unet3plus.demo.workspace import Workspace
from nnunetv2_unet3plus.errors import UserError


def test_an_earlier_demo_is_replaced(tmp_path):
    first = Workspace.prepare(tmp_path / "demo")
    (first.root / "masks").mkdir()
    assert not (Workspace.prepare(tmp_path / "demo").root / "masks").exists()


def test_an_empty_folder_is_taken(tmp_path):
    assert Workspace.prepare(tmp_path).root == tmp_path


def test_files_of_the_user_are_safe(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds files of yours"):
        Workspace.prepare(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        Workspace.prepare(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_data_inside_the_output_is_safe(tmp_path):
    output = Workspace.prepare(tmp_path / "demo").root
    data = output / "LiTS"
    data.mkdir()
    with pytest.raises(UserError, match="choose another --output"):
        Demo.prepare(output, data)
    assert data.exists()


def test_bad_data_costs_no_earlier_demo(tmp_path):
    output = Workspace.prepare(tmp_path / "demo").root
    (output / "masks").mkdir()
    with pytest.raises(UserError, match="no such folder"):
        Demo.prepare(output, tmp_path / "missing")
    assert (output / "masks").exists()


def test_commands_see_nnunets_folders_and_the_users_own_settings(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("nnUNet_raw", "/the/users/own")
    monkeypatch.setenv("nnUNet_n_proc_DA", "5")
    workspace = Workspace.prepare(tmp_path)
    workspace.run("python", "-c", "import os; print(os.environ['nnUNet_raw'], os.environ['nnUNet_n_proc_DA'])")
    command, output = capfd.readouterr().out.split("\n", 2)[1:]
    assert command.startswith("$ python -c 'import os")
    assert output == f"{tmp_path / 'nnUNet_raw'} 5\n"


def test_commands_come_from_this_environment(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", "")
    Workspace.prepare(tmp_path).run("python", "-c", "import sys; print(sys.prefix)")
    assert capfd.readouterr().out.splitlines()[-1] == sys.prefix


def test_a_failing_command_is_named(tmp_path):
    with pytest.raises(UserError, match="`python` ended with exit code 3"):
        Workspace.prepare(tmp_path).run("python", "-c", "raise SystemExit(3)")


def test_a_stopped_command_is_named(tmp_path):
    with pytest.raises(UserError, match="`python` was stopped by SIGKILL"):
        Workspace.prepare(tmp_path).run("python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_missing_command_is_named(tmp_path):
    with pytest.raises(UserError, match="nnUNetv2_fly is not installed"):
        Workspace.prepare(tmp_path).run("nnUNetv2_fly")


def test_output_inside_the_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="lie inside one another"):
        Demo.prepare(tmp_path / "LiTS" / "demo_output", tmp_path / "LiTS")
    assert not (tmp_path / "LiTS").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--trainer", "nnUNetTrainerUNet3Plus_0epochs"], "--trainer nnUNetTrainerUNet3Plus_0epochs: nnU-Net finds no"),
        (["--device", "mps"], "--device mps: PyTorch finds no such device here"),  # there is none on Linux
    ],
)
def test_trainer_and_device_are_checked_before_anything_is_written(options, complaint, tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path / "demo"), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
