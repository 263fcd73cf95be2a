import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_unet3plus import trainers
from nnunetv2_unet3plus.benchmarking.report.published import (
    LITS,
    PUBLISHED,
    SPLEEN,
    UNET3PLUS,
    UNETPLUSPLUS,
    UNETSHARP,
    beside,
    data_of,
    organ_of,
    trainer_of,
)
from nnunetv2_unet3plus.benchmarking.results import Labels, Model
from tests.benchmarking.report import synthetic


def test_the_papers_figures():
    found = {(each.paper[:6], each.data, each.network, each.measure): each.value for each in PUBLISHED}
    assert len(found) == len(PUBLISHED) == 2 * 15 + 1 + 4 + 10
    assert found["UNet 3", LITS, "UNet 3+ with hybrid loss and CGM, ResNet-101", "dice"] == 0.9675
    assert found["UNet 3", SPLEEN, "UNet 3+, VGG-16", "dice"] == 0.9496
    assert found["UNet++", LITS, "UNet++ with deep supervision", "iou"] == 0.829
    assert found["UNet# ", LITS, "UNet# with CGM", "dice"] == 0.9824
    assert all(0.8 < each.value < 1 for each in PUBLISHED)


def test_every_trainer_exists():
    named = {name for each in PUBLISHED for name in each.trainers}
    assert named <= {*trainers.__all__, "nnUNetTrainer"}


PAGE = Path(__file__).parents[3] / "docs" / "reproducing-the-papers.md"
SECTION = {"UNet 3+": UNET3PLUS, "UNet#": UNETSHARP}


def rows_of_the_page():
    """A row of a table of figures: the paper, the figures' text, the trainers."""
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        paper = SECTION.get(section.splitlines()[0].split(",")[0])
        for line in section.splitlines():
            if paper and (figures := re.findall(r"(?<= )\.\d{4}", line)):
                yield pytest.param(paper, figures, set(re.findall("nnUNetTrainer[A-Za-z0-9]*", line)), id=line[2:60])


def test_all_the_pages_rows_are_checked():
    figures = [figure for row in rows_of_the_page() for figure in row.values[1]]
    published = [each for each in PUBLISHED if each.paper != UNETPLUSPLUS]
    assert {float(figure) for figure in figures} == {each.value for each in published}


@pytest.mark.parametrize(("paper", "figures", "trainers"), list(rows_of_the_page()))
def test_the_report_has_in_each_row_whom_the_page_has(paper, figures, trainers):
    values = {float(figure) for figure in figures}
    lines = [each for each in PUBLISHED if each.paper == paper and each.value in values]
    assert len(lines) >= len(figures)
    assert {name.removesuffix("ImageNet") for each in lines for name in each.trainers} == trainers


@pytest.mark.parametrize(
    ("dataset", "prefix", "data"),
    [
        ("Dataset501_LiTS", "case_", LITS),
        ("Dataset003_Liver", "case_", LITS),
        ("Dataset509_Spleen", "case_", SPLEEN),
        ("Task03_Liver", "case_", LITS),
        ("Dataset012_LiTS2017", "case_", LITS),
        ("Dataset012_lits-organ", "case_", LITS),
        ("Dataset012_MSD-Spleen", "case_", SPLEEN),
        ("Dataset012_Kidney_splits", "case_", None),
        ("Dataset012_delivery", "case_", None),
        ("Dataset012_LiverVessels", "case_", None),
        ("Dataset012_Spleens", "case_", None),
        ("Dataset007_Mine", "liver_", LITS),
        ("Dataset007_Mine", "spleen_", SPLEEN),
        ("Dataset007_Mine", "hippocampus_", None),
    ],
)
def test_whose_data_it_is(dataset, prefix, data):
    made = synthetic.small()
    cases = made.cases.assign(case=prefix + made.cases["case"].str[-3:])
    assert data_of(replace(made, dataset=dataset, cases=cases)) == data
    if "Mine" in dataset:
        assert data_of(replace(made, dataset=dataset, cases=made.cases.iloc[:0])) is None


@pytest.mark.parametrize(
    ("labels", "organ"),
    [(("liver", "tumour"), "liver"), (("Liver",), "Liver"), (("organ",), "organ"), (("a", "b"), None)],
)
def test_which_class_is_the_papers(labels, organ):
    made = synthetic.small(labels=Labels(dict.fromkeys(labels, (1,))))
    assert organ_of(made, LITS) == organ


@pytest.mark.parametrize(
    ("name", "folder", "trainer"),
    [
        ("x", "nnUNetTrainerUNet3Plus_50epochs__nnUNetPlans__2d", "nnUNetTrainerUNet3Plus"),
        ("x", "nnUNetTrainer_2epochs_3iters__P__2d", "nnUNetTrainer"),
        ("nnUNetTrainerUNet3Plus_50epochs", "elsewhere", "nnUNetTrainerUNet3Plus"),
    ],
)
def test_which_trainer_it_is(name, folder, trainer):
    assert trainer_of(Model(name, Path(folder), ())) == trainer


def test_ours_stands_beside_the_papers():
    made = synthetic.benchmark(models=4, cases=8, splits=("test",))
    lines = beside(made, LITS, "test", "liver")
    assert len(lines) == 15 + 1 + 4 + 10
    found = {(line.published.network, line.published.measure): line for line in lines if line.model}
    assert {name for name, _ in found} == {
        "UNet, VGG-16",
        "UNet 3+ with hybrid loss, ResNet-101",
        "UNet 3+ with hybrid loss and CGM, ResNet-101",
        "nnU-Net",
        "UNet 3+ with deep supervision, the paper's own variant",
        "UNet# with deep supervision",
        "UNet#",
    }
    line = found["UNet# with deep supervision", "iou"]
    own = made.cases[(made.cases["label"] == "liver") & (made.cases["model"] == "nnUNetTrainerUNetSharp_50epochs")]
    np.testing.assert_allclose(line.ours, own["iou"].mean())
    assert line.texts[0] == "0.9536"
    assert line.texts[2] == f"{own['iou'].mean() - 0.9536:+.4f}".replace("-", "−")


def test_two_models_of_one_network_have_a_line_each():
    made = synthetic.small()
    twins = [replace(made.models[1], name=name) for name in ("one", "other")]
    lines = beside(replace(made, models=twins), LITS, "test", "liver")
    rows = ("UNet 3+ with hybrid loss, ResNet-101", "UNet 3+ with deep supervision, the paper's own variant")
    found = [(line.published.network, line.model) for line in lines if line.model]
    assert found == [(row, name) for row in rows for name in ("one", "other")]
    assert all(line.texts[1:] == ("–", "–") for line in lines)
