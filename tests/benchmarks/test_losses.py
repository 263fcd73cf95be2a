import json

import pytest
import torch

from benchmarks import losses


def rows_of(tmp_path, *options):
    file = tmp_path / "rows.json"
    assert losses.main(["--threads", "1", "--runs", "1", "--json", str(file), *options]) == 0
    return json.loads(file.read_text())["rows"]


def compared(rows):
    return {(row["loss"], row["against"]): row for row in rows}


@pytest.mark.parametrize("options", [("--parts", "2d", "--size", "48"), ("--parts", "3d", "--side-3d", "24")])
def test_counterparts_have_the_same_value(tmp_path, options):
    rows = rows_of(tmp_path, *options)
    same = [row for row in rows if row["difference"] != "other function"]
    assert {row["loss"] for row in same} == {
        *("FocalLoss", "HybridLoss", "IoULoss", "LaplaceDiceLoss", "LovaszLoss", "MSSSIMLoss", "UNetPlusPlusLoss")
    }
    assert max(row["difference"] for row in same) < 1e-5
    for row in rows:
        assert row["theirs_by_ours"] == pytest.approx(row["theirs_ms"] / row["ours_ms"])


def test_msssim_itself_where_it_accepts_the_size(tmp_path):
    small, large = (compared(rows_of(tmp_path, "--parts", "2d", "--size", size)) for size in ("160", "161"))
    assert ("MSSSIMLoss", "pytorch-msssim") not in small
    assert large["MSSSIMLoss", "pytorch-msssim"]["difference"] == "other function"
    every_scale = ("MSSSIMLoss", "pytorch-msssim, ssim at every scale")
    assert small[every_scale]["difference"] < 1e-5
    assert large[every_scale]["difference"] == "other function"  # its pooling drops or pads an odd row


def test_share_of_the_training_step(tmp_path):
    (row,) = rows_of(tmp_path, "--parts", "share", "--size", "32")
    assert row["heads"] == 5
    assert 0 < row["share"] < 1
    assert row["share"] == pytest.approx(row["loss_ms"] / row["step_ms"])


def test_gradients_of_counterparts_are_ours():
    logits, labels = losses.example(2, (48, 48), "cpu")
    for match in losses.matches((48, 48)):
        ours, theirs = (torch.autograd.grad(loss(logits, labels), logits)[0] for loss in (match.ours, match.theirs))
        if match.offset is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6, msg=match.name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--parts", "3d", "--side-3d", "100000"], "--side-3d 100000"),
        (["--parts", "2d", "--size", "1000000"], "--size 1000000"),
        (["--parts", "share", "--size", "8"], "--size 8"),
        (["--parts", "share", "--size", "100000"], "--size 100000"),
        (["--parts", "everything"], "--parts"),
    ],
)
def test_refusals_are_one_line(options, said, capsys):
    assert losses.main(options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert said in line


def test_what_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(losses, "MISSING", "monai")
    assert losses.main([]) == 2
    assert "monai is not installed: pip install 'nnunetv2-unet3plus[dev]'" in capsys.readouterr().err
