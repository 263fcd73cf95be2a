"""`unet3plus benchmark` and `report` as a user types them: real scans, kills at random points, a cluster."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from tests.benchmarking.report.browser import check_page
from tests.end_to_end.nnunet import Workspace, shared_data, write_hippocampus, write_lits_phantoms

pytestmark = pytest.mark.slow

TRAINERS = (
    "nnUNetTrainer",
    "nnUNetTrainerUNet3Plus",
    "nnUNetTrainerUNet3PlusCGM",
    "nnUNetTrainerUNetPlusPlus",
    "nnUNetTrainerUNetSharp",
)
TABLES = ("report.html", "results.csv", "table.md", "table.tex")


@pytest.fixture
def repeatable(workspace):
    """Trainings that make their patches in their own process, the seeded one."""
    workspace.env["nnUNet_n_proc_DA"] = "0"
    return workspace


def plan(workspace, number, configuration, batch_size, width=8):
    """nnU-Net's plan, with a narrow network and a small batch: what is tested is the command, not the masks."""
    env, workspace.env = workspace.env, workspace.env | {"nnUNet_n_proc_DA": "1"}
    workspace.run("nnUNetv2_plan_and_preprocess", "-d", number, "-c", configuration, "-npfp", 1, "-np", 1)
    workspace.env = env
    (plans,) = workspace.preprocessed.glob("*/nnUNetPlans.json")
    content = json.loads(plans.read_text())
    network = content["configurations"][configuration]["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [min(width * 2**stage, 16 * width) for stage in range(network["n_stages"])]
    content["configurations"][configuration]["batch_size"] = batch_size
    plans.write_text(json.dumps(content))


def benchmark(workspace, number, configuration, output, *options, trainers=TRAINERS, length="2epochs_3iters"):
    return workspace.run(
        "unet3plus", "benchmark", "-d", number, "-c", configuration, "-f", 0, 1, "-tr", *trainers,
        "--length", length, "--device", "cpu", "-o", output, *options,
    )  # fmt: skip


def check_against_summaries(workspace, output, trainers, length):
    """Every Dice and IoU is nnU-Net's own."""
    cases = pd.read_csv(output / "results.csv")
    compared = 0
    for trainer in trainers:
        name = f"{trainer}_{length}"
        for summary in workspace.results.glob(f"*/{name}__*/fold_*/validation/summary.json"):
            for entry in json.loads(summary.read_text())["metric_per_case"]:
                case = entry["prediction_file"].split("/")[-1].split(".")[0]
                rows = cases[(cases["model"] == name) & (cases["case"] == case) & (cases["split"] == "validation")]
                for row, metrics in zip(rows.itertuples(), entry["metrics"].values(), strict=True):
                    assert row.dice == pytest.approx(metrics["Dice"], abs=1e-6, nan_ok=True)
                    assert row.iou == pytest.approx(metrics["IoU"], abs=1e-6, nan_ok=True)
                    compared += 1
    assert compared == (cases["split"] == "validation").sum()
    assert compared > 0


def final_checkpoints(workspace):
    return {path: path.stat().st_mtime_ns for path in workspace.results.glob("*/*/fold_*/checkpoint_final.pth")}


def check_again(workspace, output, *command, **options):
    """The same command once more trains nothing and says the same."""
    before = final_checkpoints(workspace), (output / "results.csv").read_bytes()
    start = time.monotonic()
    benchmark(workspace, *command, **options)
    print(f"nothing to do: {time.monotonic() - start:.0f} s")
    assert (final_checkpoints(workspace), (output / "results.csv").read_bytes()) == before
    again = output.with_name("again")
    workspace.run("unet3plus", "report", output, "-o", again)
    for table in ("results.csv", "table.md", "table.tex"):
        assert (again / table).read_bytes() == (output / table).read_bytes()


def test_hippocampus_with_test_scans(repeatable):
    workspace, length = repeatable, "2epochs_10iters"
    dataset = write_hippocampus(workspace.raw, cases=20)
    test = write_hippocampus(workspace.root / "test", cases=24)
    for folder in ("imagesTr", "labelsTr"):  # the four that are not trained on
        for known in (workspace.raw / dataset / folder).iterdir():
            (workspace.root / "test" / test / folder / known.name).unlink()
    scans = workspace.root / "test" / test
    plan(workspace, 4, "3d_fullres", batch_size=2)
    output = workspace.root / "report"
    options = ("--test-images", scans / "imagesTr", "--test-labels", scans / "labelsTr")
    print(benchmark(workspace, 4, "3d_fullres", output, *options, length=length))
    check_against_summaries(workspace, output, TRAINERS, length)
    cases = pd.read_csv(output / "results.csv")
    assert cases[cases["split"] == "test"].groupby("model")["case"].nunique().tolist() == [4] * len(TRAINERS)
    assert set(MEASURES) <= set(cases.columns)
    assert "Nothing is missing" in (output / "report.html").read_text()
    check_page(output / "report.html")
    check_again(workspace, output, 4, "3d_fullres", output, *options, length=length)


def test_lits_layout_of_real_ct(repeatable):
    """Six abdominal CT scans at 256 x 256, their liver, in 2d."""
    workspace, length = repeatable, "2epochs_5iters"
    source = workspace.root / "LiTS"
    subprocess.run([sys.executable, shared_data(".") / "assemble_lits.py", source, "--inplane", "256"], check=True)
    workspace.run("unet3plus", "convert", "lits", source, "--organ")
    plan(workspace, 501, "2d", batch_size=2)
    output = workspace.root / "report"
    print(benchmark(workspace, 501, "2d", output, length=length))
    check_against_summaries(workspace, output, TRAINERS, length)
    check_page(output / "report.html")
    page = (output / "report.html").read_text()
    assert "Nothing is missing" in page
    assert "UNet 3+: A Full-Scale Connected UNet" in page or "Huang" in page  # the paper's table beside ours


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Planned and preprocessed, to be trained in folders of their own."""
    workspace = Workspace(tmp_path_factory.mktemp("phantoms"))
    workspace.run("unet3plus", "convert", "lits", write_lits_phantoms(workspace.root / "LiTS", 10), "--organ")
    plan(workspace, 501, "2d", batch_size=2)
    return workspace


def trained_elsewhere(workspace, root):
    """The same scans and plans with other results."""
    other = Workspace(root)
    other.env |= {f"nnUNet_{name}": str(workspace.root / name) for name in ("raw", "preprocessed")}
    other.env["nnUNet_n_proc_DA"] = "0"
    return other


KILLED = (501, "2d")
TWO = ("nnUNetTrainer", "nnUNetTrainerUNet3Plus")


def test_killed_ten_times(phantoms, tmp_path):
    length = "6epochs_3iters"
    undisturbed = trained_elsewhere(phantoms, tmp_path / "undisturbed")
    start = time.monotonic()
    benchmark(undisturbed, *KILLED, undisturbed.root / "report", trainers=TWO, length=length)
    seconds = time.monotonic() - start

    killed = trained_elsewhere(phantoms, tmp_path / "killed")
    output = killed.root / "report"
    dice, done, kills = random.Random(0), {}, 0
    while kills < 10:
        process = killed.start(
            "unet3plus", "benchmark", "-d", 501, "-c", "2d", "-f", 0, 1, "-tr", *TWO, "--length", length,
            "--device", "cpu", "-o", output, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait = dice.uniform(0.05, 0.18) * seconds
        try:
            process.wait(wait)
            print("had ended: begun anew")
            shutil.rmtree(killed.results)  # all done before ten kills: they go on with another benchmark
            killed.results.mkdir()
            done = {}
            continue
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)  # the command alone: its jobs have to notice
            process.wait()
            kills += 1
            print(f"kill {kills}: after {wait:.0f} s, {len(final_checkpoints(killed))} folds trained")
        time.sleep(3)
        assert not processes_in(killed.root)
        now = final_checkpoints(killed)
        assert done.items() <= now.items()  # what is trained is not trained again
        done = now
    benchmark(killed, *KILLED, output, trainers=TWO, length=length)
    assert done.items() <= final_checkpoints(killed).items()

    ours, theirs = (pd.read_csv(w.root / "report" / "results.csv") for w in (killed, undisturbed))
    pd.testing.assert_frame_equal(ours, theirs)
    assert without_times(output / "table.md") == without_times(undisturbed.root / "report" / "table.md")
    for trainer in TWO:
        for fold in (0, 1):
            assert_every_epoch_once_saved_is_trained_once(killed, trainer, length, fold)
    assert findings(output / "report.html") == findings(undisturbed.root / "report" / "report.html")


def findings(page):
    """What a page says in words, which holds no times."""
    return re.findall(r"<li>(.*?)</li>", page.read_text(), re.DOTALL)


def processes_in(folder):
    """Command lines of processes that work in a folder's files."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


def without_times(table):
    """A table's cells that are no measurement of time."""
    rows = [line.split("|") for line in table.read_text().splitlines()]
    timed = {i for row in rows for i, cell in enumerate(row) if re.search(r"\bs\b|second|Wh", cell)}
    return [[cell for i, cell in enumerate(row) if i not in timed] for row in rows]


def assert_every_epoch_once_saved_is_trained_once(workspace, trainer, length, fold):
    """After its checkpoint, written at the end of every epoch of so short a training, an epoch never begins again."""
    folder = next(workspace.results.glob(f"*/{trainer}_{length}__*/fold_{fold}"))
    begun = []
    for log in sorted(folder.glob("training_log_*.txt")):
        begun.append([int(number) for number in re.findall(r"^\S+ \S+ Epoch (\d+) *$", log.read_text(), re.MULTILINE)])
    begun = [epochs for epochs in begun if epochs]
    assert {epoch for epochs in begun for epoch in epochs} == set(range(6))
    for earlier, later in itertools.pairwise(begun):
        assert later[0] >= earlier[-1]  # only the epoch that was cut short


def test_on_a_cluster(phantoms, tmp_path, slurm_cluster):
    workspace = trained_elsewhere(phantoms, tmp_path)
    workspace.env["SLURM_CONF"] = str(slurm_cluster)
    options = ("--executor", "slurm", "--slurm", "partition=main", "cpus_per_task=1")
    output = workspace.root / "report"
    print(benchmark(workspace, *KILLED, output, *options, trainers=TWO))
    check_against_summaries(workspace, output, TWO, "2epochs_3iters")
    check_again(workspace, output, *KILLED, output, *options, trainers=TWO)


def test_existing_results_of_nnunet(phantoms, tmp_path):
    """Trained by nnU-Net's own command, by trainers that are not ours; reported without a word of nnU-Net's folders."""
    workspace = trained_elsewhere(phantoms, tmp_path)
    trainers = ("nnUNetTrainer_2epochs_2iters", "nnUNetTrainerDiceLoss_2epochs_2iters")
    for trainer in trainers:
        workspace.run("nnUNetv2_train", 501, "2d", 0, "-tr", trainer, "-device", "cpu")
    moved = workspace.root / "moved"
    shutil.move(next(workspace.results.iterdir()), moved)
    output = workspace.root / "report"
    workspace.run("unet3plus", "report", moved, "-o", output)
    assert set(pd.read_csv(output / "results.csv")["model"]) == set(trainers)
    assert "not seeded" in (output / "report.html").read_text()
    assert {path.name for path in output.iterdir()} >= set(TABLES)


def test_what_is_missing_is_said_and_the_rest_reported(phantoms, tmp_path):
    workspace = trained_elsewhere(phantoms, tmp_path)
    output = workspace.root / "report"
    said = workspace.run(
        "unet3plus", "benchmark", "-d", 501, "-c", "2d", "-f", 0, 9, "-tr", "nnUNetTrainer", "nnUNetTrainerUnet3plus",
        "--length", "2epochs_2iters", "--device", "cpu", "-o", output, check=False,
    )  # fmt: skip
    for line in ("-tr nnUNetTrainerUnet3plus: nnU-Net finds no such trainer; did you mean nnUNetTrainerUNet3Plus",
                 "-f 9: no such fold"):  # fmt: skip
        assert line in said
        assert line.split(":")[0] in (output / "report.html").read_text()
    assert pd.read_csv(output / "results.csv")["model"].nunique() == 1


def test_no_gpu_when_asked_for_one(phantoms, tmp_path):
    workspace = trained_elsewhere(phantoms, tmp_path)
    workspace.env["CUDA_VISIBLE_DEVICES"] = ""
    said = workspace.run(
        "unet3plus", "benchmark", "-d", 501, "-c", "2d", "-tr", "nnUNetTrainer", "--length", "2epochs_2iters",
        "-o", workspace.root / "report", check=False,
    )  # fmt: skip
    assert "--device" in said.splitlines()[-1]
    assert "Traceback" not in said
