import pandas as pd
import pytest

from nnunetv2_unet3plus import cli
from tests.benchmarking.folders import DATASET

A, B = "nnUNetTrainer", "nnUNetTrainerUNet3Plus"


@pytest.fixture
def trained(folders):
    for fold in (0, 1):
        folders.train(f"{A}_2epochs_3iters", fold, seed=0, repeatable=True)
        folders.train(f"{B}_2epochs_3iters", fold, shift=1, seed=0, repeatable=True)
    return folders


def benchmark(*options, trainers=(A, B)):
    length = ("--length", "2epochs_3iters", "--device", "cpu", "-np", "1")
    return cli.main(["benchmark", "-d", "900", "-c", "2d", "-tr", *trainers, *length, *map(str, options)])


def models_in(output):
    return list(dict.fromkeys(pd.read_csv(output / "results.csv")["model"]))


def test_what_is_trained_is_reported(trained, tmp_path, capsys):
    output = tmp_path / "out"
    assert benchmark("-f", 0, 1, "-o", output) == 0
    assert models_in(output) == [f"{A}_2epochs_3iters", f"{B}_2epochs_3iters"]
    assert "report.html" in capsys.readouterr().out
    assert {"report.html", "table.md", "table.tex", "results.csv", "benchmark.json"} <= {
        f.name for f in output.iterdir()
    }

    again = tmp_path / "again"
    assert cli.main(["report", str(output), "-o", str(again), "-np", "1"]) == 0
    for name in ("results.csv", "table.md", "table.tex"):
        assert (again / name).read_bytes() == (output / name).read_bytes()


def test_the_default_place_is_beside_the_models(trained):
    assert benchmark("-f", 0, 1) == 0
    assert (trained.root / "results" / DATASET / "benchmark_nnUNetPlans_2d_2x3" / "report.html").exists()


def test_a_datasets_folder_is_all_its_models_nnunets_first(trained, tmp_path):
    trained.train("nnUNetTrainerADozenOthers", 0)
    results = trained.root / "results" / DATASET
    assert cli.main(["report", str(results), "-f", "0", "-o", str(tmp_path / "out"), "-np", "1"]) == 0
    names = [f"{A}_2epochs_3iters", "nnUNetTrainerADozenOthers", f"{B}_2epochs_3iters"]
    assert models_in(tmp_path / "out") == names


def test_what_is_missing_is_said_and_the_rest_reported(trained, tmp_path, capsys):
    (trained.model(f"{B}_2epochs_3iters") / "fold_1" / "validation" / "summary.json").unlink()
    (trained.model(f"{B}_2epochs_3iters") / "fold_1" / "checkpoint_final.pth").unlink()
    output = tmp_path / "out"
    assert cli.main(["report", str(trained.root / "results" / DATASET), "-o", str(output), "-np", "1"]) == 2
    line = f"{B}_2epochs_3iters: fold 1 is missing: not trained"
    assert line in capsys.readouterr().err
    assert line in (output / "report.html").read_text()
    assert len(models_in(output)) == 2


def test_a_class_that_no_scan_holds_is_said(trained, tmp_path, capsys):
    trained.labels = trained.labels | {"spleen": 3}
    for trainer in (f"{A}_5epochs", f"{B}_5epochs"):
        trained.train(trainer, 0)
    folders = [str(trained.model(f"{trainer}_5epochs")) for trainer in (A, B)]
    cli.main(["report", *folders, "-o", str(tmp_path / "out"), "-np", "1"])
    assert "spleen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "-o", "out"], "nowhere: no such folder; name model folders"),
        ([".", "-o", "out"], "no model folder; give a folder that nnUNetv2_train has written"),
        (["."], "-o is missing: name a new or empty folder"),
    ],
)
def test_nothing_to_report_is_one_line(folders, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(folders.root)
    assert cli.main(["report", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert line in error
    assert len(error.splitlines()) == 1


def test_no_gpu_and_nothing_trained_is_one_line(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = ["-d", "900", "-c", "2d", "-f", "0", "-tr", A, "--length", "2epochs_3iters", "-o", str(tmp_path / "out")]
    assert cli.main(["benchmark", *options]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("unet3plus: error: --device cuda: PyTorch finds no GPU")
    assert len(error.splitlines()) == 1


def test_no_gpu_but_something_trained_is_reported(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = ["-d", "900", "-c", "2d", "-f", "0", "2", "-tr", A, B, "--length", "2epochs_3iters", "-np", "1"]
    assert cli.main(["benchmark", *options, "-o", str(tmp_path / "out")]) == 2
    assert "--device cuda: PyTorch finds no GPU" in (tmp_path / "out" / "report.html").read_text()
    assert len(models_in(tmp_path / "out")) == 2
