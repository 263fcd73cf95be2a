"""docs/reproducing-the-papers.md: every trainer exists, every command line is understood, the table is up to date."""

import inspect
import re
from importlib import metadata

import pytest
from nnunetv2.experiment_planning import plan_and_preprocess_entrypoints

from benchmarks.expected_hours import GPU_GB, PAGE, commands, option, rows, table
from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.benchmarking.costs.hours import IN_PLANE, TERAFLOPS, expected_hours
from nnunetv2_unet3plus.doctor import find_trainer

TEXT = PAGE.read_text(encoding="utf-8")
TRAINERS = set(re.findall(r"nnUNetTrainer[A-Za-z0-9]*", TEXT))
OURS = [words[1:] for words in commands(TEXT) if words[0] == "unet3plus"]
NNUNETS = [words for words in commands(TEXT) if words[0].startswith("nnUNetv2_")]
CELLS = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("| 2")]


def test_nothing_is_overlooked():
    assert len(OURS) + len(NNUNETS) == len(commands(TEXT)) == TEXT.count("\nunet3plus ") + TEXT.count("\nnnUNetv2_")
    assert {words[0] for words in OURS} == {"convert", "plan", "benchmark", "prune"}
    assert {trainer for words in OURS for trainer in option(words, "-tr")} <= set(
        re.findall(r"nnUNetTrainer[A-Za-z0-9]*", TEXT)
    )


@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_every_trainer_exists(name):
    assert find_trainer(name).__name__ == name


@pytest.mark.parametrize("words", OURS, ids=lambda words: " ".join(words)[:60])
def test_every_command_of_ours_is_understood(words):
    assert cli._parser().parse_args(words).run is not None


def test_no_command_replaces_anothers_output():
    outputs = [option(words, "-o") for words in OURS if words[0] in ("benchmark", "prune")]
    assert all(len(output) == 1 for output in outputs)
    assert len({output[0] for output in outputs}) == len(outputs)


@pytest.mark.parametrize("words", NNUNETS, ids=lambda words: " ".join(words)[:60])
def test_every_command_of_nnunet_is_known(words):
    assert words[0] in {entry.name for entry in metadata.distribution("nnunetv2").entry_points}
    known_options = re.findall(r"['\"](--?\w+)['\"]", inspect.getsource(plan_and_preprocess_entrypoints))
    assert {word for word in words if word.startswith("-")} <= set(known_options)


def test_what_is_trained_has_been_planned():
    planned = {
        (option(words, "-d")[0], (option(words, "-overwrite_plans_name") or ["nnUNetUNet3PlusPlans"])[0])
        for words in commands(TEXT)
        if words[0] == "nnUNetv2_plan_and_preprocess" or words[:2] == ["unet3plus", "plan"]
    }
    trained = {(option(words, "-d")[0], option(words, "-p")[0]) for words in OURS if words[0] == "benchmark"}
    assert trained == planned


def test_links():
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (PAGE.parent / target).exists(), target


class TestTable:
    def test_has_every_training_once(self):
        assert [(cells[0], cells[1]) for cells in CELLS] == [(row.configuration, row.trainer) for row in rows(TEXT)]
        assert set(rows(TEXT, "509")) <= set(rows(TEXT))  # said to cost the same

    @pytest.mark.parametrize("cells", CELLS, ids=lambda cells: f"{cells[0]}-{cells[1]}")
    def test_hours_follow_from_its_other_columns(self, cells):
        _, _, _, gflop, batch, memory, *hours = cells
        for (gpu, available), told in zip(GPU_GB.items(), hours, strict=True):
            expected = expected_hours(float(gflop), int(batch), 1000, 250, 50, IN_PLANE * TERAFLOPS[gpu])
            assert (told == "-") == (float(memory) >= available)
            assert told == "-" or float(told) == pytest.approx(expected, abs=0.6)

    @pytest.mark.slow
    def test_is_what_the_benchmark_prints(self, monkeypatch):
        for folder in ("raw", "preprocessed", "results"):
            monkeypatch.setenv(f"nnUNet_{folder}", "")  # put back afterwards
        assert "\n".join(table(TEXT)) in TEXT
