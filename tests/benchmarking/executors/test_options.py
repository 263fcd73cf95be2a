import argparse
import sys
import types

import pytest
import torch

from nnunetv2_unet3plus.benchmarking.executors import options
from nnunetv2_unet3plus.errors import UserError

UUID = "GPU-8f6d1c9e-0000-0000-0000-000000000000"


class NVMLError(Exception):
    pass


def handle(uuid):
    if uuid != UUID:
        raise NVMLError


@pytest.fixture
def gpus(monkeypatch):
    """A machine with three GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    nvml = types.SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=handle, NVMLError=NVMLError)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


@pytest.fixture
def executors(monkeypatch):
    """The arguments of the executor made."""
    monkeypatch.setattr(options, "LocalExecutor", lambda slots, gpus=None: (slots, gpus))
    monkeypatch.setattr(options, "SlurmExecutor", lambda parameters: parameters)


def make(line):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--device", default="cpu")
    options.add_options(parser)
    return options.make_executor(parser.parse_args(line.split()))


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("", (1, None)),
        ("--jobs 4", (4, None)),
        ("--device cuda", (3, ["0", "1", "2"])),
        ("--device cuda --jobs 1", (1, ["0", "1", "2"])),
        ("--device cuda --gpus 0 2", (2, ["0", "2"])),
        (f"--device cuda --gpus {UUID} --jobs 2", (2, [UUID])),
        ("--executor slurm --slurm partition=gpu time=2-00", {"partition": "gpu", "time": "2-00"}),
        ("--executor slurm --device cuda", {"gpus_per_node": "1"}),
        (
            "--executor slurm --device cuda --slurm partition=gpu constraint=gpu80",
            {"partition": "gpu", "constraint": "gpu80", "gpus_per_node": "1"},
        ),
        ("--executor slurm --device cuda --slurm gres=gpu:a100:1", {"gres": "gpu:a100:1"}),
        ("--executor slurm --device cuda --slurm gpus_per_task=1", {"gpus_per_task": "1"}),
        ('--executor slurm --slurm additional_parameters={"a":"b=c"}', {"additional_parameters": '{"a":"b=c"}'}),
        ("--executor slurm", {}),
    ],
)
def test_what_is_made(gpus, executors, line, made):
    assert make(line) == made


def test_the_gpus_this_shell_may_use_are_those_that_are_shared_out(gpus, executors, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert make("--device cuda") == (2, ["5", "7"])
    assert make("--device cuda --gpus 7") == (1, ["7"])
    for gpu in ("0", UUID):
        with pytest.raises(UserError, match=f"--gpus {gpu}: not in CUDA_VISIBLE_DEVICES; there are 5, 7"):
            make(f"--device cuda --gpus {gpu}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--slurm partition=gpu", "--slurm is for --executor slurm"),
        ("--executor slurm --jobs 2", "--jobs and --gpus are for --executor local"),
        ("--executor slurm --gpus 0", "--jobs and --gpus are for --executor local"),
        ("--executor slurm --slurm time=1 time=2", "--slurm names a KEY twice"),
        ("--gpus 0", "--gpus is for --device cuda"),
        ("--device cuda --gpus 0 3", "--gpus 3: not on this machine; there are 0, 1, 2"),
        ("--device cuda --gpus GPU-1234", "--gpus GPU-1234: not on this machine"),
        ("--device cuda --gpus 1 1", "--gpus 1 1: one is named twice"),
    ],
)
def test_options_that_do_not_go_together_are_the_users_error(gpus, executors, line, words):
    with pytest.raises(UserError, match=words):
        make(line)


def test_no_gpu_when_asked_for_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--device cuda: PyTorch finds no GPU on this machine; use --device cpu"):
        make("--device cuda")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--slurm partition", "'partition' is not KEY=VALUE"),
        ("--slurm =gpu", "'=gpu' is not KEY=VALUE"),
        ("--slurm partition=", "'partition=' is not KEY=VALUE"),
        ("--jobs 0", "'0' is not a whole number above 0"),
        ("--jobs many", "'many' is not a whole number above 0"),
        ("--executor pbs", "invalid choice: 'pbs'"),
    ],
)
def test_a_malformed_option_is_named(line, words):
    with pytest.raises(argparse.ArgumentError, match=words):
        make(line)
