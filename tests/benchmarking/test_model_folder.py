from copy import deepcopy

import pytest

from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder, differences
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.trainers.declarative import with_architecture_option
from tests.benchmarking.folders import Folders
from tests.trainers.conftest import LABELS


def test_what_its_name_and_files_say(folders):
    folders.train("nnUNetTrainer_2epochs", 0)
    folders.train("nnUNetTrainer_2epochs", 2)
    model = ModelFolder.read(folders.model("nnUNetTrainer_2epochs"))
    assert (model.trainer, model.plans_name, model.configuration) == ("nnUNetTrainer_2epochs", "nnUNetPlans", "2d")
    assert [fold.name for fold in model.folds] == ["0", "2"]
    assert model.is_ct


@pytest.mark.parametrize(
    ("labels", "values", "ignore"),
    [
        ("labels", {"liver": (1,), "tumour": (2,)}, None),
        ("ignore", {"liver": (1,), "tumour": (2,)}, 3),
        ("regions-ignore", {"organ": (1, 2), "tumour": (2,)}, 3),
    ],
)
def test_labels(tmp_path, labels, values, ignore):
    folders = Folders(tmp_path, LABELS[labels])
    description = folders.dataset_json | {"regions_class_order": [1, 2]}
    found = ModelFolder(tmp_path / "t__p__2d", folders.plans, description).labels
    assert (found.values, found.ignore) == (values, ignore)


@pytest.mark.parametrize("damage", ["no plans", "half plans", "other name", "no such configuration"])
def test_what_is_no_model_folder(folders, damage):
    folders.train("nnUNetTrainer", 0)
    path = folders.model("nnUNetTrainer")
    if damage == "no plans":
        (path / "plans.json").unlink()
    elif damage == "half plans":
        (path / "plans.json").write_text("{")
    elif damage == "other name":
        path = path.rename(path.with_name("nnUNetTrainer"))
    else:
        path = path.rename(path.with_name("nnUNetTrainer__nnUNetPlans__3d_fullres"))
    with pytest.raises(UserError, match=str(path)):
        ModelFolder.read(path)


def test_plans_that_do_not_differ(folders):
    ours = with_architecture_option(folders.plans, "2d", "regions", True)
    assert differences(ours, folders.plans, "2d", "2d") == ""


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("patch_size", [64, 64], "patch_size [64, 64] and [32, 32]"),
        ("batch_size", 7, "batch_size 7 and 2"),
        ("normalization_schemes", ["ZScoreNormalization"], "normalization_schemes"),
    ],
)
def test_plans_that_differ(folders, key, value, said):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"][key] = value
    assert differences(other, folders.plans, "2d", "2d") == said


def test_another_network_is_another_plan(folders):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["architecture"]["arch_kwargs"]["n_stages"] = 3
    assert differences(other, folders.plans, "2d", "2d") == "architecture"
