from dataclasses import replace

import pytest

from nnunetv2_unet3plus.benchmarking.report.names import breakable, renamed, short_names
from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS
from tests.benchmarking.report import synthetic


@pytest.mark.parametrize(
    ("models", "short"),
    [
        (["nnUNetTrainer", "nnUNetTrainerUNet3Plus"], ["nnU-Net", "UNet3Plus"]),
        (["nnUNetTrainer_50epochs", "nnUNetTrainerUNet3Plus_50epochs"], ["nnU-Net", "UNet3Plus"]),
        (["nnUNetTrainer_5epochs", "nnUNetTrainer_50epochs"], ["nnU-Net_5epochs", "nnU-Net_50epochs"]),
        (["nnUNetTrainerA_2epochs_3iters", "nnUNetTrainerB_2epochs_3iters"], ["A", "B"]),
        (["nnUNetTrainer nnUNetPlans", "nnUNetTrainer nnUNetResEncUNetMPlans"],
         ["nnU-Net nnUNetPlans", "nnU-Net nnUNetResEncUNetMPlans"]),
        (["myTrainer", "nnUNetTrainer"], ["myTrainer", "nnU-Net"]),
        (["UNet3Plus", "nnUNetTrainerUNet3Plus"], ["UNet3Plus", "nnUNetTrainerUNet3Plus"]),  # would be the same
        (["nnUNetTrainer1"], ["nnU-Net1"]),
        ([], []),
    ],
)  # fmt: skip
def test_short_names(models, short):
    assert list(short_names(models).values()) == short


def test_rows_of_strangers_are_left_out():
    made = synthetic.small(3)
    names = {model.name: f"model {index}" for index, model in enumerate(made.models[:2])}
    found = renamed(replace(made, models=made.models[:2]), names)
    assert set(found.cases["model"]) == {"model 0", "model 1"}
    assert [model.name for model in found.models] == ["model 0", "model 1"]


def test_lacking_columns_are_added():
    made = synthetic.small()
    bare = replace(made, cases=made.cases[["model", "split", "case", "label", "dice"]])
    found = renamed(bare, {model.name: model.name for model in made.models})
    assert list(found.cases.columns) == list(CASE_COLUMNS)


@pytest.mark.parametrize(
    ("name", "html"),
    [("UNet3PlusCGM", "UNet3<wbr>Plus<wbr>CGM"), ("a_b", "a_<wbr>b"), ("<b>", "&lt;b&gt;"), ("", "")],
)
def test_breakable(name, html):
    assert str(breakable(name)) == html
