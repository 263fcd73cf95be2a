"""`unet3plus prune` on a model folder as nnU-Net's trainer writes it; that stock prediction reads it is end to end."""

import json
import shutil

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.pruning import model_folder
from nnunetv2_unet3plus.trainers import (
    nnUNetTrainerUNet3Plus,
    nnUNetTrainerUNetPlusPlus,
    nnUNetTrainerUNetSharp,
    nnUNetTrainerUNetSharpL2,
    nnUNetTrainerUNetSharpNoDS,
    nnUNetTrainerUNetSharpVGG16,
    nnUNetTrainerVNetPlusPlus,
    nnUNetTrainerVNetSharp,
)
from tests.trainers.conftest import make_trainer  # noqa: F401 - a fixture


@pytest.fixture
def make_model(make_trainer, tmp_path):  # noqa: F811
    """make_model(trainer_class) -> its model folder, fold 0."""

    def make(trainer_class, **plan):
        trainer = make_trainer(trainer_class, **{"n_stages": 4} | plan)
        folder = tmp_path / f"{trainer_class.__name__}__nnUNetPlans__2d"
        (folder / "fold_0").mkdir(parents=True)
        trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
        (folder / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
        (folder / "dataset.json").write_text(json.dumps(trainer.dataset_json))
        return folder

    return make


def predictor(folder):
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
    predictor.network.load_state_dict(predictor.list_of_parameters[0], strict=True)
    return predictor.network.eval()


@pytest.mark.parametrize(
    ("trainer_class", "stages"),
    [
        (nnUNetTrainerUNetPlusPlus, 4),
        (nnUNetTrainerUNetSharp, 4),
        (nnUNetTrainerVNetPlusPlus, 5),
        (nnUNetTrainerVNetSharp, 6),
        (nnUNetTrainerUNetSharpVGG16, 5),
    ],
)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_pruned_model_is_the_branch_of_the_whole(trainer_class, stages, level, make_model, tmp_path, capsys):
    folder, output = make_model(trainer_class, n_stages=stages, patch_size=[64, 64]), tmp_path / "pruned"
    assert cli.main(["prune", str(folder), "--level", str(level), "-o", str(output)]) == 0
    assert f"pruned to level {level}" in capsys.readouterr().out
    whole, pruned = predictor(folder), predictor(output)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        whole.decoder.deep_supervision = True
        assert pruned(x).equal(whole(x)[stages - 1 - level])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_network_of_stacked_slices(make_model, tmp_path):
    folder, output = make_model(nnUNetTrainerUNetPlusPlus, stacked={"depth": 4}), tmp_path / "pruned"
    assert cli.main(["prune", str(folder), "--level", "1", "-o", str(output)]) == 0
    whole, pruned = predictor(folder), predictor(output)
    x = torch.randn(1, 1, 4, 32, 32)
    with torch.no_grad():
        whole.decoder.deep_supervision = True
        assert pruned(x).equal(whole(x)[2])


def test_file_shrinks_as_the_parameters_do(make_model, tmp_path):
    folder, output = make_model(nnUNetTrainerUNetSharp, width=24), tmp_path / "pruned"
    cli.main(["prune", str(folder), "--level", "2", "-o", str(output)])
    whole, pruned = (model / "fold_0" / "checkpoint_final.pth" for model in (folder, output))
    checkpoint = torch.load(whole, weights_only=False)
    del checkpoint["optimizer_state"]  # which inference does not read: what is left out besides the weights
    torch.save(checkpoint, tmp_path / "weights.pth")
    sizes = [path.stat().st_size for path in (pruned, tmp_path / "weights.pth")]
    parameters = [sum(p.numel() for p in predictor(model).parameters()) for model in (output, folder)]
    assert sizes[0] / sizes[1] == pytest.approx(parameters[0] / parameters[1], rel=0.02)
    assert sizes[0] < whole.stat().st_size * parameters[0] / parameters[1] * 1.02


def test_weights_that_load_into_another_network_are_noticed(make_model, tmp_path, monkeypatch):
    folder = make_model(nnUNetTrainerUNetSharp)
    build = model_folder.build_network

    def other_nonlinearity(trainer, plans, *rest):
        network = build(trainer, plans, *rest)
        if "prune_level" in plans["configurations"]["2d"]["architecture"]["arch_kwargs"]:
            network.encoder.stages[0][0].convs[0].nonlin.negative_slope = 0.5
        return network

    monkeypatch.setattr(model_folder, "build_network", other_nonlinearity)
    with pytest.raises(RuntimeError, match="pruned to level 1 is not the whole network's branch"):
        cli.main(["prune", str(folder), "--level", "1", "-o", str(tmp_path / "pruned")])
    assert not (tmp_path / "pruned").exists()


def test_command_printed_names_folds_and_checkpoint(make_model, tmp_path, capsys):
    folder = make_model(nnUNetTrainerUNetSharp)
    (folder / "fold_all").mkdir()
    shutil.copy(folder / "fold_0" / "checkpoint_final.pth", folder / "fold_all" / "checkpoint_best.pth")
    cli.main(["prune", str(folder), "--level", "1", "-o", str(tmp_path / "pruned")])
    assert "-f 0 all -chk checkpoint_best.pth -i" in capsys.readouterr().out
    assert (tmp_path / "pruned" / "fold_all" / "checkpoint_best.pth").exists()


class TestBadInput:
    @pytest.fixture
    def refuse(self, capsys, tmp_path):
        def refuse(folder, level=1, output=None):
            code = cli.main(["prune", str(folder), "--level", str(level), "-o", str(output or tmp_path / "pruned")])
            error = capsys.readouterr().err
            assert code == 2
            assert error.count("\n") == 1
            assert output is not None or not (tmp_path / "pruned").exists()
            return error

        return refuse

    @pytest.mark.parametrize("level", [0, 4])
    def test_level(self, level, make_model, refuse):
        error = refuse(make_model(nnUNetTrainerUNetSharp), level)
        assert f"--level {level}: prune_level must be 1 to 3" in error

    def test_no_model_folder(self, tmp_path, refuse):
        assert "plans.json: no such file" in refuse(tmp_path)

    def test_folder_without_a_checkpoint(self, make_model, refuse):
        folder = make_model(nnUNetTrainerUNetSharp)
        (folder / "fold_0" / "checkpoint_final.pth").unlink()
        assert "no fold_*/checkpoint_final.pth" in refuse(folder)

    def test_damaged_checkpoint(self, make_model, refuse):
        folder = make_model(nnUNetTrainerUNetSharp)
        (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")
        assert "checkpoint_final.pth: not a readable checkpoint" in refuse(folder)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda checkpoint: checkpoint.pop("network_weights"), "not a readable checkpoint"),
            (lambda checkpoint: checkpoint["network_weights"].popitem(), "does not fit the plans.json"),
            (
                lambda checkpoint: checkpoint.update(trainer_name="nnUNetTrainerElsewhere"),
                "finds no trainer nnUNetTrainerElsewhere",
            ),
            (lambda checkpoint: checkpoint.update(trainer_name="nnUNetTrainer"), "trains no UNet++ or UNet#"),
        ],
    )
    def test_foreign_checkpoint(self, change, reason, make_model, refuse):
        folder = make_model(nnUNetTrainerUNetSharp)
        path = folder / "fold_0" / "checkpoint_final.pth"
        checkpoint = torch.load(path, weights_only=False)
        change(checkpoint)
        torch.save(checkpoint, path)
        assert reason in refuse(folder)

    @pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
    @pytest.mark.parametrize(
        ("content", "reason"), [("{", "damaged"), ("[]", "damaged, not an object"), ("{}", "does not fit")]
    )
    def test_damaged_json(self, name, content, reason, make_model, refuse):
        folder = make_model(nnUNetTrainerUNetSharp)
        (folder / name).write_text(content)
        assert reason in refuse(folder)

    def test_full_disk(self, make_model, refuse, monkeypatch):
        folder = make_model(nnUNetTrainerUNetSharp)

        def save(*_):
            raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file")

        monkeypatch.setattr(torch, "save", save)
        assert "pruned: could not be written; free some space" in refuse(folder)

    def test_model_pruned_before(self, make_model, refuse, tmp_path):
        before = tmp_path / "before"
        cli.main(["prune", str(make_model(nnUNetTrainerUNetSharp)), "--level", "2", "-o", str(before)])
        assert "pruned already" in refuse(before, 3)
        assert "pruned already" in refuse(before, 1)

    def test_network_trained_without_deep_supervision(self, make_model, refuse):
        error = refuse(make_model(nnUNetTrainerUNetSharpNoDS))
        assert "never trained" in error

    def test_other_network(self, make_model, refuse):
        assert "nnUNetTrainerUNet3Plus trains no UNet++ or UNet#" in refuse(make_model(nnUNetTrainerUNet3Plus))

    def test_network_pruned_already(self, make_model, refuse):
        assert "nnUNetTrainerUNetSharpL2" in refuse(make_model(nnUNetTrainerUNetSharpL2))

    def test_output_that_exists(self, make_model, refuse, tmp_path):
        (tmp_path / "there").mkdir()
        assert "there: exists already" in refuse(make_model(nnUNetTrainerUNetSharp), output=tmp_path / "there")
