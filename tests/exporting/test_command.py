"""`unet3plus export` on a model folder as nnU-Net's trainer writes it."""

import shutil

import pytest
import torch

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.exporting import command
from nnunetv2_unet3plus.trainers import nnUNetTrainerUNet3Plus, nnUNetTrainerUNet3PlusCGM
from tests.pruning.test_model_folder import make_model, predictor  # noqa: F401 - one is a fixture
from tests.trainers.conftest import make_trainer  # noqa: F401 - a fixture

PLAN = {"n_stages": 3, "patch_size": [16, 24]}


@pytest.fixture
def model(make_model):  # noqa: F811
    return make_model(nnUNetTrainerUNet3Plus, **PLAN)


@pytest.mark.parametrize(
    ("trainer_class", "plan", "options", "size"),
    [
        (nnUNetTrainerUNet3Plus, {}, [], (16, 24)),
        (nnUNetTrainerUNet3PlusCGM, {}, ["--fold", "0", "--size", "17", "32"], (17, 32)),
        (nnUNetTrainerUNet3Plus, {"stacked": {"depth": 2}}, ["-f", "0"], (2, 16, 24)),
    ],
    ids=["2d", "size", "2.5d"],
)
def test_file_holds_what_nnunet_would_predict_with(trainer_class, plan, options, size, make_model, tmp_path, capsys):  # noqa: F811
    folder, output = make_model(trainer_class, **PLAN, **plan), tmp_path / "new" / "network.pt2"
    assert cli.main(["export", str(folder), "-o", str(output), *options]) == 0
    printed = capsys.readouterr().out
    assert f"fold_0; takes (1, 1, {', '.join(map(str, size))}), gives logits (1, 3, " in printed
    assert "differs from the network by" in printed
    x = torch.randn(1, 1, *size)
    with torch.no_grad():
        logits, expected = torch.export.load(output).module()(x), predictor(folder)(x)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert [path.name for path in output.parent.iterdir()] == ["network.pt2"]


def test_what_a_closed_gate_hides_is_compared(make_model, tmp_path, monkeypatch):  # noqa: F811
    """The gate calls every class of the patch absent, and the decoder behind it is wrong."""
    folder = make_model(nnUNetTrainerUNet3PlusCGM, **PLAN)
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["network_weights"]["gatings.0.thresholds"].fill_(1)
    torch.save(checkpoint, file)
    output = tmp_path / "network.pt2"
    assert cli.main(["export", str(folder), "-o", str(output)]) == 0
    x = torch.randn(1, 1, 16, 24)
    assert (torch.export.load(output).module()(x).argmax(1) == 0).all()  # the gate itself is as it was

    def with_a_wrong_head(network, patch):
        with torch.no_grad():
            network.decoder.seg_layers[0].bias += 1
        return export_network(network, patch)

    export_network = command.export_network
    monkeypatch.setattr(command, "export_network", with_a_wrong_head)
    with pytest.raises(RuntimeError, match="differs from the network"):
        cli.main(["export", str(folder), "-o", str(tmp_path / "wrong.pt2")])


def test_other_checkpoint_of_another_fold(model, tmp_path):
    (model / "fold_1").mkdir()
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    for weight in checkpoint["network_weights"].values():
        weight *= 2
    torch.save(checkpoint, model / "fold_1" / "checkpoint_best.pth")
    x = torch.randn(1, 1, 16, 24)
    logits = []
    for options in (["-f", "0"], ["-f", "1", "-chk", "checkpoint_best.pth"]):
        output = tmp_path / f"fold{options[1]}.pt2"
        assert cli.main(["export", str(model), "-o", str(output), *options]) == 0
        logits.append(torch.export.load(output).module()(x))
    assert not logits[0].allclose(logits[1])


class TestBadInput:
    @pytest.fixture
    def refuse(self, capsys, tmp_path):
        def refuse(folder, *options, output=None):
            before = sorted(tmp_path.rglob("*"))
            assert cli.main(["export", str(folder), "-o", str(output or tmp_path / "network.pt2"), *options]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert sorted(tmp_path.rglob("*")) == before
            return error

        return refuse

    def test_no_folder(self, refuse, tmp_path):
        assert "nowhere/plans.json: no such file; give a model folder" in refuse(tmp_path / "nowhere")

    def test_no_checkpoint(self, model, refuse):
        assert "no fold_*/checkpoint_best.pth in it" in refuse(model, "-chk", "checkpoint_best.pth")

    def test_unknown_fold(self, model, refuse):
        assert "no checkpoint_final.pth of fold 3; give -f with one of 0" in refuse(model, "-f", "3")

    def test_several_folds(self, model, refuse):
        shutil.copytree(model / "fold_0", model / "fold_all")
        assert "several folds; give -f with one of 0 all" in refuse(model)

    def test_damaged_checkpoint(self, model, refuse):
        (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")
        assert "checkpoint_final.pth: not a readable checkpoint" in refuse(model)

    def test_file_that_exists(self, model, refuse, tmp_path):
        there = tmp_path / "there.pt2"
        there.write_text("mine")
        assert "there.pt2: exists already" in refuse(model, output=there)
        assert there.read_text() == "mine"

    def test_name_of_another_format(self, model, refuse, tmp_path):
        assert "network.onnx: an exported network is a .pt2 file" in refuse(model, output=tmp_path / "network.onnx")

    def test_number_of_axes(self, model, refuse):
        error = refuse(model, "--size", "8", "16", "24")
        assert "--size 8 16 24: patches of 2d have 2 axes, as 16 24" in error

    @pytest.mark.parametrize("size", [("0", "16"), ("a", "16")])
    def test_no_size(self, size, model, refuse):
        assert "--size" in refuse(model, "--size", *size)

    def test_size_too_small(self, model, refuse):
        assert "--size 2 2: does not fit the network (Expected more than 1 value per channel" in refuse(
            model, "--size", "2", "2"
        )

    def test_full_disk(self, model, refuse, monkeypatch):
        def save(program, stream):
            stream.write(b"the first part")
            raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file")

        monkeypatch.setattr(torch.export, "save", save)
        assert "network.pt2: could not be written; free some space" in refuse(model)


def test_wrong_file_is_noticed(model, tmp_path, monkeypatch):
    export = command.export_network

    def other_weights(network, patch):
        network.decoder.seg_layers[0].weight.data.mul_(2)
        return export(network, patch)

    monkeypatch.setattr(command, "export_network", other_weights)
    with pytest.raises(RuntimeError, match="differs from the network"):
        cli.main(["export", str(model), "-o", str(tmp_path / "network.pt2")])
    assert list(tmp_path.glob("network*")) == []
