"""Every benchmark of speed and memory on tiny images: its rows, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import against_nnunet, convolutions, plans, roofline, scaling, training_step, whole_scan
from benchmarks.subject import available_bytes, bytes_needed
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes

MAINS = [script.main for script in (training_step, against_nnunet, roofline, scaling, whole_scan)]
every_script = pytest.mark.parametrize("main", MAINS, ids=lambda main: main.__module__)


@pytest.fixture
def narrow(monkeypatch):
    """The stock plans with an eighth of the features."""

    def narrowed(*args):
        plan = plans.stock_plan(*args)
        return plan | {"features_per_stage": [width // 8 for width in plan["features_per_stage"]]}

    for script in (against_nnunet, roofline, scaling, whole_scan):
        monkeypatch.setattr(script, "stock_plan", narrowed)


@every_script
def test_cuda_without_a_device_is_refused(main, refusal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda" in refusal(main, "--device", "cuda")


@every_script
def test_size_beyond_the_memory_is_refused_before_anything_is_computed(main, refusal):
    said = refusal(main, "--size", str(2**17))
    assert "GB are needed" in said
    assert f"{2**17}" in said


@every_script
def test_size_too_small_for_the_stages_is_refused(main, refusal):
    assert "--size 8:" in refusal(main, "--size", "8")


def test_as_a_process_it_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "rows.json"
    options = ("--networks", "unetsharp_paper_unet", "--size", "32", "--runs", "1", "--threads", "1")
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_step", *options, "--json", file],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(result.stdout.splitlines()) == 1 + len(json.loads(file.read_text())["rows"])
    assert result.stderr == ""


@pytest.mark.parametrize("name", [*training_step.PLANAR, *training_step.PLANNED, "unetsharp_paper_vnet"])
def test_training_step_of_every_network_with_a_textbook_form(name, rows):
    step, inference, saved, work = rows(training_step.main, "--networks", name, "--size", "32")
    for row in (step, inference):
        assert row["network"] == name
        assert row["ratio"] == pytest.approx(row["textbook"] / row["ours"])
    assert saved["ratio"] == pytest.approx(saved["ours"] / saved["textbook"])
    assert work["ratio"] == pytest.approx(work["textbook"] / work["ours"])
    assert work["ratio"] > 0.9
    assert min(step["ours"], inference["ours"], saved["ours"]) > 0


@pytest.mark.parametrize(
    ("plan", "side", "batch", "name", "bar"),
    [
        ("2d", 512, 2, "unet3plus_lite", 1.0),
        ("2d", 512, 2, "unet3plus", 1.2),
        ("3d_fullres", 128, 1, "unet3plus_lite", 1.0),
        ("3d_fullres", 128, 1, "unet3plus", 1.2),
    ],
)
def test_memory_kept_beside_nnunets_own_network(plan, side, batch, name, bar):
    stock = plans.stock_plan(plan)
    with torch.device("meta"):
        networks = [plans.ours(name, stock, cat_channels=16), plans.plain(stock)]
        x = torch.empty(batch, 1, *[side] * len(stock["strides"][0]))
    ours, theirs = (saved_bytes(network.train(), x) for network in networks)
    assert ours <= bar * theirs


@pytest.mark.parametrize("name", [*training_step.PAPERS, *plans.OURS])
def test_memory_on_a_gpu_can_be_told_before(name):
    if name in training_step.PAPERS:
        paper = training_step.PAPERS[name]
        build, shape = (lambda: paper.build(paper.channels, 1)), (1, paper.channels, *[32] * paper.dims)
    else:
        plan = plans.stock_plan("2d", 5)
        build, shape = (lambda: plans.ours(name, plan)), (2, 1, 64, 64)
    assert 0 < bytes_needed(build, shape, "cuda") < bytes_needed(build, shape, "cpu")


def test_against_nnunet_in_2d(rows, narrow):
    found = rows(
        against_nnunet.main,
        *("--size", "256", "--batch-size", "1", "--networks", "unet3plus", "--cat-channels", "4", "8"),
    )
    labels = ["PlainConvUNet", "ResidualEncoderUNet", "unet3plus cat_channels=4", "unet3plus cat_channels=8"]
    assert [row["network"] for row in found[:4]] == labels
    whats = ["training step (s)", "inference (s)", "saved activations (MiB)", "parameters"]
    assert [row["what"] for row in found[::4]] == whats
    for start in range(0, len(found), 4):
        plain, residual, *_ = rows_of_one = found[start : start + 4]
        for row in rows_of_one:
            assert row["/ PlainConvUNet"] == pytest.approx(row["value"] / plain["value"])
            assert row["/ ResidualEncoderUNet"] == pytest.approx(row["value"] / residual["value"])
    assert found[-1]["value"] > found[-2]["value"]


def test_against_nnunet_in_3d(rows, narrow):
    options = ("--plan", "3d_fullres", "--size", "64", "--batch-size", "1", "--networks", "unet3plus_cgm")
    found = rows(against_nnunet.main, *options)
    assert {row["network"] for row in found} == {"PlainConvUNet", "ResidualEncoderUNet", "unet3plus_cgm"}
    assert all(row["images"] == "3d_fullres, 1 x 1 x 64 x 64 x 64" for row in found)


@pytest.mark.parametrize(("plan", "plain", "residual"), [("2d", 46.3, 140.0), ("3d_fullres", 31.2, 102.4)])
def test_stock_plans_have_nnunets_own_number_of_parameters(plan, plain, residual):
    """In millions; those of 3d_fullres are what nnU-Net prints for its default and its ResEncM plans."""
    for build, millions in ((plans.plain, plain), (plans.residual, residual)):
        with torch.device("meta"):
            network = build(plans.stock_plan(plan))
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_against_nnunet_wants_sizes_nnunet_can_take(refusal):
    assert "a multiple of 128" in refusal(against_nnunet.main, "--size", "300")


def flops_by_hand(plan, cat, classes, size):
    """Of UNet 3+'s convolutions with 3 x 3 kernels, each on the coarser of its two grids."""
    features, stages = plan["features_per_stage"], plan["n_stages"]
    grids = [(size // 2**stage) ** 2 for stage in range(stages)]
    width = cat * stages
    forward = 0
    for stage, grid in enumerate(grids):
        before = features[stage - 1] if stage else 1
        forward += grid * (before + features[stage]) * features[stage]
    decoded = [width] * (stages - 1) + [features[-1]]
    for stage in range(stages - 1):
        forward += grids[stage] * sum(features[: stage + 1]) * cat  # maps of the encoder, pooled
        forward += sum(grids[k] * decoded[k] * cat for k in range(stage + 1, stages))  # coarser ones of the decoder
        forward += grids[stage] * width**2
    forward += sum(grid * channels * classes for grid, channels in zip(grids, decoded, strict=True))
    images = grids[0] * features[0]  # need no gradient
    return 2 * 9 * (3 * forward - images)


@pytest.mark.parametrize("size", [256, 512])
def test_irreducible_flops_are_those_counted_by_hand(size):
    plan = roofline.stock_plan("2d")
    convolutions, matrices = roofline.irreducible_flops(lambda: roofline.ours("unet3plus", plan), (1, 1, size, size))
    assert convolutions == flops_by_hand(plan, cat=16, classes=3, size=size)
    assert 0 < matrices < convolutions / 10


def test_flops_of_the_paper_count_wide_convolutions_in_full():
    paper = training_step.PAPERS["unet3plus_paper"]
    build = lambda: paper.build(1, 1)  # noqa: E731
    convolutions, _ = roofline.irreducible_flops(build, (1, 1, 64, 64))
    assert convolutions == flops_by_hand(roofline.paper_plan((64, 128, 256, 512, 1024)), cat=64, classes=1, size=64)


def test_roofline(rows):
    (row,) = rows(roofline.main, "--networks", "unetsharp_paper_unet", "--size", "32")
    counted = row["convolution_GFLOP"] + row["matrix_GFLOP"]
    assert row["ratio"] == pytest.approx(row["step_s"] * row["GFLOP_per_s"] / counted)
    assert row["convolutions_alone"] >= row["ratio"]
    probes = [value for name, value in row.items() if name.endswith("_GFLOP_per_s")]
    assert len(probes) == 3
    assert row["GFLOP_per_s"] == pytest.approx(max(probes))


def test_scaling_by_size_and_its_slope(rows, narrow):
    first, second, slopes = rows(scaling.main, "--sweep", "size", "--values", "32", "64")
    assert (first["time"], first["time_of_a_pixel"], first["saved"]) == (1, 1, 1)
    assert second["time"] == pytest.approx(second["step_s"] / first["step_s"])
    assert second["time_of_a_pixel"] == pytest.approx(second["time"] / 4)
    assert 4 ** slopes["slope_of_saved"] == pytest.approx(second["saved"])
    assert 4 ** slopes["slope_of_time"] == pytest.approx(second["time"])


def test_scaling_needs_two_values(refusal):
    assert "--values" in refusal(scaling.main, "--sweep", "size", "--values", "64", "64")


@pytest.mark.parametrize(("sweep", "values"), [("stages", (3, 4)), ("classes", (2, 3)), ("batch", (1, 2))])
def test_scaling_by_anything_else(sweep, values, rows, narrow):
    *found, slopes = rows(scaling.main, "--sweep", sweep, "--size", "64", "--values", *map(str, values))
    assert [row["sweep"] for row in found] == [f"{sweep} {value}" for value in values]
    assert (found[1]["saved"] > 1) == (sweep != "classes")  # the heads' logits are handed to the loss, not kept
    assert slopes["sweep"] == f"{sweep}, log-log slope"


def test_slope_of_a_power_law():
    values = [1, 2, 5, 9]
    assert scaling.slope(values, [3 * value**1.5 for value in values]) == pytest.approx(1.5)


def test_values_of_several_sweeps_are_refused(refusal):
    assert "--values" in refusal(scaling.main, "--values", "64")


def test_whole_scan_skips_the_empty_slices_alone(rows, narrow):
    plain, *gated = rows(whole_scan.main, "--size", "256", "--slices", "2", "--empty", "0.5")
    assert (plain["network"], plain["ratio"]) == ("PlainConvUNet", 1)
    for row in gated:
        assert row["patches_skipped"] == row["empty_slices"] == 0.5
        assert row["ratio"] == pytest.approx(row["scan_s"] / plain["scan_s"])


@pytest.mark.parametrize(("slices", "empty", "filled"), [(10, 0.6, 4), (5, 0.6, 2), (3, 1, 0), (3, 0, 3)])
def test_empty_slices_are_at_both_ends(slices, empty, filled):
    holds = whole_scan.holds_something(slices, empty)
    assert (len(holds), sum(holds)) == (slices, filled)
    before, after = holds.index(True) if filled else 0, holds[::-1].index(True) if filled else 0
    assert abs(before - after) <= 1


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_empty_is_a_share(share, refusal):
    assert "--empty" in refusal(whole_scan.main, f"--empty={share}")


def test_make_bench_runs_these_and_not_what_they_share():
    scripts = {path.stem for path in Path(training_step.__file__).parent.glob("*.py") if "__main__" in path.read_text()}
    assert scripts >= {"training_step", "against_nnunet", "roofline", "scaling", "whole_scan"}
    assert scripts.isdisjoint({"frame", "measure", "plans", "subject"})


def test_memory_of_a_step_is_that_of_maps_and_weights():
    """A convolution by hand: weights, their gradient, images, output and its gradient, each kept at the peak."""
    images, weights, maps = 4 * 3 * 16**2, 4 * 8 * 3, 4 * 8 * 16**2
    needed = bytes_needed(lambda: torch.nn.Conv2d(3, 8, 1, bias=False), (1, 3, 16, 16), "cpu")
    assert needed == images + 2 * weights + 2 * maps
    assert 0 < needed < available_bytes("cpu")


def test_convolutions_of_a_small_shape(rows):
    (row,) = rows(convolutions.main, "--shapes", "8x4x16")
    assert row["shape"] == "8x4x16"
    assert min(row[name] for name in ("ratio", "forward", "of_input", "of_weight")) > 0
    assert row["taken"] == "False"


@pytest.mark.parametrize("text", ["8x4", "ax4x16", "0x4x16"])
def test_shapes_that_are_none_are_refused(text, refusal):
    assert f"argument --shapes: {text!r}" in refusal(convolutions.main, "--shapes", text)
