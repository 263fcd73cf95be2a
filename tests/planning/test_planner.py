"""What `unet3plus plan` writes, for datasets that are a fingerprint alone."""

import inspect
import json
import re

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.planning import saved_tensors
from nnunetv2_unet3plus.planning.memory import network_on_meta, planner_target, saved_bytes, training_cost
from nnunetv2_unet3plus.planning.networks import NETWORKS, plannable_network
from nnunetv2_unet3plus.trainers import __all__ as trainers

PREPROCESSING = (
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "preprocessor_name",
    "resampling_fn_data_kwargs",
)


def plan(*options, dataset=901):
    assert cli.main(["plan", "-d", str(dataset), *map(str, options)]) == 0


def costs(dataset, name="nnUNetUNet3PlusPlans"):
    """Configuration to its batch and what its network costs."""
    plans = PlansManager(dataset.plans(name))
    for name in plans.available_configurations:
        configuration = plans.get_configuration(name)
        network = network_on_meta(configuration.configuration["architecture"], 1, 3)
        yield name, configuration, training_cost(network, 1, configuration.patch_size)


@pytest.fixture
def refused(capsys):
    """refused(options, line): exit code 2 and one line that matches."""

    def expect(options, line):
        assert cli.main(["plan", *map(str, options)]) == 2
        error = capsys.readouterr().err
        assert re.search(line, error), error
        assert error.count("\n") == 1

    return expect


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "nnUNetUNet3PlusPlans"),
        (["--vram", 3], "nnUNetUNet3PlusPlans_3G"),
        (["--network", "unetplusplus", "--residual-encoder", "M"], "nnUNetUNetPlusPlusResEncMPlans"),
        (["--network", "unetsharp_cgm", "--vram", 4], "nnUNetUNetSharpCGMPlans_4G"),
    ],
)
def test_plans_fill_the_memory_and_count_what_is_kept(make_dataset, options, name):
    """Every configuration: within the GB, not one patch less than fits, its bytes within 15 %."""
    dataset = make_dataset(shape=(32, 128, 128))
    plan(*options)
    budget = dataset.plans(name)["planned_with"]["vram"]
    checked = 0
    for _, configuration, cost in costs(dataset, name):
        batch = configuration.batch_size
        assert batch >= 2
        assert cost.gigabytes(batch) <= budget
        seen_at_once = 100 * 32 * 128 * 128 * (1 if "ResEnc" in name else 0.05)  # nnU-Net's precaution
        voxels = torch.Size(configuration.patch_size).numel()
        assert cost.gigabytes(batch + 1) > budget or (batch + 1) * voxels > 0.9 * seen_at_once

        network = network_on_meta(configuration.configuration["architecture"], 1, 3)
        kept = saved_tensors.saved_bytes(network, torch.empty(2, 1, *configuration.patch_size, device="meta"))
        assert saved_bytes(cost.stored_values, 2, bytes_per_value=4) == pytest.approx(kept, rel=0.15)
        checked += 1
    assert checked >= 3


def test_more_memory_is_used(make_dataset):
    dataset = make_dataset(shape=(96, 256, 256))
    sizes = []
    for vram in (3, 6):
        plan("--vram", vram, "--configurations", "3d_fullres", "--name", f"Plans{vram}")
        (configuration,) = dataset.plans(f"Plans{vram}")["configurations"].values()
        sizes.append(torch.Size(configuration["patch_size"]).numel() * configuration["batch_size"])
    assert sizes[1] > 1.5 * sizes[0]


def test_everything_but_patch_batch_and_network_is_nnunets_own(make_dataset):
    dataset = make_dataset()
    plan()
    stock = ExperimentPlanner(901).plan_experiment()
    ours = dataset.plans()
    assert set(stock["configurations"]) == set(ours["configurations"]) - {"2.5d"}
    for name, theirs in stock["configurations"].items():
        mine = ours["configurations"][name]
        assert {key: mine.get(key) for key in PREPROCESSING} == {key: theirs.get(key) for key in PREPROCESSING}
        same = name in ("2d", "3d_fullres")
        assert (mine.get("data_identifier") == theirs.get("data_identifier")) == (same or "inherits_from" in mine)
        assert set(mine) == set(theirs)
    kept = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
    assert json.loads(json.dumps({key: stock[key] for key in kept})) == {key: ours[key] for key in kept}
    # and nnU-Net's plans are as they were before ours were made
    assert dataset.plans("nnUNetPlans")["experiment_planner_used"] == "ExperimentPlanner"


def test_data_preprocessed_otherwise_is_not_shared(make_dataset):
    dataset = make_dataset()
    stock = ExperimentPlanner(901).plan_experiment()
    stock["configurations"]["3d_fullres"]["spacing"] = [2.0, 2.0, 2.0]  # as a user might want it
    (dataset.preprocessed / "nnUNetPlans.json").write_text(json.dumps(stock))
    plan()
    ours = dataset.plans()["configurations"]
    assert ours["2d"]["data_identifier"] == "nnUNetPlans_2d"
    assert ours["3d_fullres"]["data_identifier"] == "nnUNetUNet3PlusPlans_3d_fullres"


def test_low_resolution_and_cascade_of_large_scans(make_dataset):
    dataset = make_dataset(shape=(64, 160, 160))
    plan("--vram", 2.3)
    configurations = dataset.plans("nnUNetUNet3PlusPlans_2.3G")["configurations"]
    assert list(configurations) == ["2d", "2.5d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]
    assert configurations["3d_lowres"]["data_identifier"] == "nnUNetUNet3PlusPlans_2.3G_3d_lowres"
    assert configurations["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
    plan("--vram", 2.3, "--configurations", "3d_lowres", "--name", "LowresPlans")
    (lowres,) = dataset.plans("LowresPlans")["configurations"].values()
    assert "next_stage" not in lowres


class TestStackedSlices:
    def test_configuration(self, make_dataset):
        dataset = make_dataset()
        plan("--configurations", "2d", "2.5d", "--patch-size", 96, 128)
        flat, stacked = (dataset.plans()["configurations"][name] for name in ("2d", "2.5d"))
        assert set(stacked) == {"inherits_from", "patch_size", "batch_size", "architecture"}
        assert (stacked["inherits_from"], stacked["patch_size"], flat["patch_size"]) == ("2d", [8, 96, 128], [96, 128])
        architecture, inner = stacked["architecture"], flat["architecture"]
        assert architecture["network_class_name"] == "nnunetv2_unet3plus.architectures.slice_stack.SliceStack"
        kwargs = architecture["arch_kwargs"]
        assert kwargs.pop("network_class_name") == inner["network_class_name"]
        assert kwargs.pop("slices") == 3
        for name in ("strides", "kernel_sizes"):
            assert [entry[0] for entry in kwargs[name]] == [1] * kwargs["n_stages"]
            kwargs[name] = [entry[1:] for entry in kwargs[name]]
        assert kwargs == inner["arch_kwargs"]
        manager = PlansManager(dataset.plans()).get_configuration("2.5d")
        assert (manager.data_identifier, len(manager.spacing)) == ("nnUNetPlans_2d", 2)

    def test_slices_follow_the_plans_axis_and_thin_scans_have_fewer(self, make_dataset):
        dataset = make_dataset(spacing=(0.8, 0.8, 3.0), shape=(160, 160, 5))  # slices along the last axis
        plan("--configurations", "2d", "2.5d")
        assert dataset.plans()["transpose_forward"] == [2, 0, 1]
        assert dataset.plans()["configurations"]["2.5d"]["patch_size"] == [5, 160, 160]

    def test_patch_size_asked_for_is_kept_with_fewer_slices(self, make_dataset):
        dataset = make_dataset(shape=(48, 512, 512))
        plan("--configurations", "2d", "2.5d", "--patch-size", 320, 320, "--vram", 5)
        depth, *in_plane = dataset.plans("nnUNetUNet3PlusPlans_5G")["configurations"]["2.5d"]["patch_size"]
        assert in_plane == [320, 320]
        assert 3 <= depth < 8

    def test_patch_shrinks_where_none_is_asked_for(self, make_dataset):
        dataset = make_dataset(shape=(48, 512, 512))
        plan("--configurations", "2d", "2.5d", "--vram", 5)
        configurations = dataset.plans("nnUNetUNet3PlusPlans_5G")["configurations"]
        depth, *in_plane = configurations["2.5d"]["patch_size"]
        assert depth == 8
        assert in_plane < configurations["2d"]["patch_size"]


def test_residual_encoder(make_dataset):
    dataset = make_dataset()
    plan("--residual-encoder", "M", "--configurations", "2d")
    kwargs = dataset.plans("nnUNetUNet3PlusResEncMPlans")["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert kwargs["n_blocks_per_stage"][:4] == [1, 3, 4, 6]
    assert "n_conv_per_stage" not in kwargs


@pytest.mark.parametrize(("preset", "gigabytes"), [("M", 8), ("L", 24), ("XL", 40)])
def test_budgets_of_the_presets_are_nnunets(make_dataset, preset, gigabytes):
    dataset = make_dataset()
    plan("--residual-encoder", preset, "--configurations", "2d", "--patch-size", 64, 64)
    name = f"nnUNetUNet3PlusResEnc{preset}Plans"
    plans = dataset.plans(name)
    assert plans["planned_with"] == {
        "network": "unet3plus",
        "residual_encoder": preset,
        "vram": gigabytes,
        "patch_size": [64, 64],
    }
    assert planner_target(PlansManager(plans)) == gigabytes


def test_two_plans_do_not_share_a_file(make_dataset, capsys):
    """nnU-Net keeps configurations that are not planned anew, which may be of another network and budget."""
    dataset = make_dataset()
    plan("--configurations", "2d", "--name", "Mine")
    before = dataset.plans("Mine")
    options = ["--configurations", "2d", "--name", "Mine", "--vram", "3"]
    assert cli.main(["plan", "-d", "901", *options]) == 2
    assert "Mine.json: was planned with vram 8.0, network unet3plus; remove it or choose" in capsys.readouterr().err
    assert dataset.plans("Mine") == before
    plan("--configurations", "2d", "2.5d", "--name", "Mine")  # with the same options it is one plan
    assert set(dataset.plans("Mine")["configurations"]) == {"2d", "2.5d"}


def test_patches_are_turned_in_the_plane(make_dataset):
    """nnU-Net does so where a patch is more than three times as wide as deep."""
    dataset = make_dataset()
    plan("--configurations", "2d", "2.5d", "--patch-size", 16, 24)
    depth, *size = dataset.plans("nnUNetUNet3PlusPlans")["configurations"]["2.5d"]["patch_size"]
    assert size == [16, 24]
    assert 24 / depth > 3


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_planned_for(make_dataset, name):
    dataset = make_dataset(shape=(8, 64, 64))
    network = NETWORKS[name]
    plan("--network", name, "--vram", 20, "--configurations", "2d" if network.planar else "3d_fullres")
    plans = dataset.plans(f"{network.plans_name(None)}_20G")
    assert network.trainer in trainers
    for configuration in plans["configurations"].values():
        assert network.options.items() <= configuration["architecture"]["arch_kwargs"].items()


def test_planar_network_is_planned_for_2d_and_stacked_slices(make_dataset):
    dataset = make_dataset(shape=(8, 64, 64))
    plan("--network", "unet3plus_vgg16")
    assert list(dataset.plans("nnUNetUNet3PlusVGG16Plans")["configurations"]) == ["2d", "2.5d"]


def test_2d_dataset(make_dataset, refused):
    dataset = make_dataset(spacing=(999.0, 1.0, 1.0), shape=(1, 128, 128))
    plan()
    assert list(dataset.plans()["configurations"]) == ["2d"]
    for wanted in (["2d", "2.5d"], ["3d_fullres"]):
        refused(
            ["-d", 901, "--configurations", *wanted], f"{wanted[-1]}: not for Dataset901_Liver, its scans are single"
        )


def test_what_comes_next(make_dataset, capsys):
    dataset = make_dataset()
    plan()
    lines = capsys.readouterr().out.splitlines()
    assert "  nnUNetv2_preprocess -d 901 -plans_name nnUNetUNet3PlusPlans -c 2d 3d_fullres" in lines
    assert "  nnUNetv2_train 901 2d 0 -tr nnUNetTrainerUNet3Plus -p nnUNetUNet3PlusPlans" in lines
    assert "own trainer" in lines[-1]
    (row,) = [line.split() for line in lines if line.startswith("  2.5d")]
    assert row[:6] == ["2.5d", "8", "x", "160", "x", "160"]
    assert 0 < float(row[-1]) <= 8

    for case in ("a", "b"):
        (dataset.preprocessed / "nnUNetPlans_2d").mkdir(exist_ok=True)
        (dataset.preprocessed / "nnUNetPlans_2d" / f"{case}.pkl").touch()
    plan("--network", "unetplusplus")
    out = capsys.readouterr().out
    assert "-plans_name nnUNetUNetPlusPlusPlans -c 3d_fullres\n" in out
    assert "own trainer" not in out


class TestBadInput:
    def test_unknown_network(self, make_dataset, refused):
        make_dataset()
        refused(
            ["-d", 901, "--network", "unet4plus"],
            "--network unet4plus: unknown; choose one of unet3plus, unet3plus_cgm",
        )

    def test_no_such_dataset(self, make_dataset, refused):
        make_dataset()
        refused(["-d", 902], "-d 902: no such dataset in .*; there: Dataset901_Liver")
        refused(["-d", "Dataset901_Spleen"], "-d Dataset901_Spleen: no such dataset")
        refused(["-d", "liver"], "-d liver: a number up to 999, or a name such as Dataset501_LiTS")

    def test_several_datasets_with_one_number(self, make_dataset, refused):
        make_dataset()
        make_dataset(name="Dataset901_Spleen")
        refused(["-d", 901], "Dataset901_Liver and Dataset901_Spleen share this number")

    @pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
    def test_folders_not_set(self, make_dataset, refused, monkeypatch, variable):
        make_dataset()
        monkeypatch.delenv(variable)
        refused(["-d", 901], f"{variable} is not set: export {variable}=FOLDER")

    @pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
    def test_too_little_memory(self, make_dataset, refused, configuration):
        dataset = make_dataset(shape=(8, 32, 32))
        options = ["--vram", 1.9, "--configurations", configuration]
        refused(
            ["-d", 901, *options], "--vram 1.9: too small for any .* patch of UNet3Plus with a batch of 2; give more"
        )
        assert not list(dataset.preprocessed.glob("nnUNet*.json"))

    @pytest.mark.parametrize("vram", ["0", "-1", "nan", "inf"])
    def test_memory_that_is_none(self, make_dataset, refused, vram):
        make_dataset()
        refused(["-d", 901, f"--vram={vram}"], "--vram .*: GB of the GPU's memory, more than 0")

    def test_configuration_without_what_it_is_built_on(self, make_dataset, refused):
        make_dataset()
        refused(["-d", 901, "--configurations", "2.5d"], "2.5d: is built on 2d, name that as well")
        refused(["-d", 901, "--configurations", "2d", "3d_cascade_fullres"], "built on 3d_fullres and 3d_lowres")

    def test_configurations_that_do_not_suit(self, make_dataset, refused):
        make_dataset()
        refused(["-d", 901, "--configurations", "3d_lowres"], "3d_lowres: not for .* covers a quarter of a scan")
        options = ["--network", "unet3plus_vgg16", "--configurations", "3d_fullres"]
        refused(["-d", 901, *options], "3d_fullres: UNet3PlusVGG16 is a 2D network")

    def test_encoder_of_its_own(self, make_dataset, refused):
        make_dataset()
        refused(["-d", 901, "--network", "vnet", "--residual-encoder", "M"], "vnet has an encoder of its own")

    def test_patch_size(self, make_dataset, refused):
        make_dataset(shape=(48, 512, 512))
        refused(["-d", 901, "--patch-size", 8, 320], "--patch-size 8 320: at least 16 along each axis")
        refused(["-d", 901, "--patch-size", 300, 320], "--patch-size 300 320: cannot be halved .*; 320 320 can")
        options = ["--patch-size", 512, 512, "--vram", 3, "--configurations", "2d"]
        refused(
            ["-d", 901, *options],
            "--patch-size 512 512: takes more than --vram 3 in 2d with a batch of 2; .* would fit",
        )
        refused(["-d", 901, "--patch-size", 320, 320, "--configurations", "3d_fullres"], "none of which")
        options = ["--patch-size", 16, 16, "--network", "unet3plus_resnet101"]
        refused(["-d", 901, *options], "a patch of 16 x 16 is too small for UNet3PlusResNet101")

    @pytest.mark.parametrize("file", ["dataset.json", "dataset_fingerprint.json"])
    @pytest.mark.parametrize(("content", "problem"), [("{", "damaged"), ("[]", "damaged"), ("{}", "missing")])
    def test_damaged_file(self, make_dataset, refused, file, content, problem):
        dataset = make_dataset()
        (dataset.raw if file == "dataset.json" else dataset.preprocessed).joinpath(file).write_text(content)
        refused(["-d", 901], f"{file}: .*{problem}")

    def test_plans_of_nnunets_own_planners_stay(self, make_dataset, refused):
        dataset = make_dataset()
        refused(["-d", 901, "--name", "nnUNetPlans"], "is the name of nnU-Net's own plans; choose another")
        for name in ("a/b", "../a", "a__b", "a b"):
            refused(["-d", 901, "--name", name], f"--name {name}: letters, digits")
        foreign = dataset.preprocessed / "nnUNetResEncUNetMPlans.json"
        foreign.write_text("{}")
        refused(["-d", 901, "--name", foreign.stem], "not written by this command; choose another --name")
        assert foreign.read_text() == "{}"

    def test_scans_that_cannot_be_read(self, make_dataset, refused):
        dataset = make_dataset()
        description = json.loads((dataset.raw / "dataset.json").read_text())
        del description["overwrite_image_reader_writer"]
        (dataset.raw / "dataset.json").write_text(json.dumps(description))
        refused(
            ["-d", 901, "--configurations", "2d", "--patch-size", 32, 32],
            "Dataset901_Liver: Unable to determine a reader",
        )


def test_planner_takes_what_nnunets_api_gives():
    from nnunetv2_unet3plus.planning.planner import NetworkPlanner

    ours, stock = (inspect.signature(planner.__init__).parameters for planner in (NetworkPlanner, ExperimentPlanner))
    assert list(ours)[: len(stock)] == list(stock)


def test_name_in_plans_is_that_of_the_class():
    assert plannable_network("unetsharp_cgm").plans_name("XL") == "nnUNetUNetSharpCGMResEncXLPlans"
