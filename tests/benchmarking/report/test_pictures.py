import base64
import io
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from PIL import Image

from nnunetv2_unet3plus.benchmarking.report import volumes
from nnunetv2_unet3plus.benchmarking.report.pictures import PIXELS, choose, show
from nnunetv2_unet3plus.benchmarking.results import CasePair, Labels
from nnunetv2_unet3plus.overlay import COLOURS, OPACITY
from tests.benchmarking.report import synthetic

PURPLE, YELLOW, GREEN = (np.array(paint) for paint in COLOURS.values())


def dice_table(*means, models=("a", "b")):
    table = synthetic.case_table(models, len(means), ("liver",), ("test",))
    table["dice"] = np.tile(means, len(models))
    return table


@pytest.mark.parametrize(
    ("means", "chosen"),
    [
        ([0.2, 0.9, 0.5, 0.7, 0.1], {"Best": 1, "Median": 2, "Worst": 4}),
        ([0.2, 0.9], {"Best": 1, "Worst": 0}),
        ([0.2], {"Best": 0}),
        ([0.5, 0.5, 0.5], {"Best": 0, "Median": 1, "Worst": 2}),
        ([0.5, math.nan, 0.4], {"Best": 0, "Worst": 2}),
        ([math.nan], {}),
    ],
)
def test_best_median_and_worst(means, chosen):
    assert choose(dice_table(*means)) == {role: f"liver_test_{case:03d}" for role, case in chosen.items()}


def test_cases_of_all_models_go_first():
    table = dice_table(0.2, 0.9, 0.5)
    lacks = (table["model"] == "b") & (table["case"] == "liver_test_001")
    assert choose(table[~lacks]) == {"Best": "liver_test_002", "Worst": "liver_test_000"}


@pytest.fixture
def one(tmp_path):
    """One case of two models; the second one's prediction is shifted."""
    return synthetic.with_files(synthetic.small(cases=1), tmp_path), tmp_path


def pixels(panel):
    head, data = panel.source.split(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), float) / 255


def coloured(panel, paint):
    """Share of a picture's pixels that have this colour over some grey."""
    rgb = pixels(panel)
    grey = (rgb - OPACITY * paint) / (1 - OPACITY)
    return (np.ptp(grey, axis=-1) < 0.12).mean()


def panels(made):
    (shown,) = show(made, "test")
    assert shown.role == "Best"
    return {panel.title: panel for panel in shown.panels}


def test_every_panel_has_its_colours(one):
    found = panels(one[0])
    assert list(found) == ["Image", "Reference", *(model.name for model in one[0].models)]
    assert not any(panel.note for panel in found.values())
    assert max(pixels(found["Image"]).shape) == PIXELS
    assert np.ptp(pixels(found["Image"]), axis=-1).max() < 0.02
    assert coloured(found["Reference"], PURPLE) > 0.2
    assert coloured(found["Reference"], YELLOW) < 0.01
    prediction = found[one[0].models[1].name]
    assert min(coloured(prediction, paint) for paint in (PURPLE, YELLOW, GREEN)) > 0.01


def flat(folder, classes, predicted, image=None, spacing=(1.0, 1.0, 3.0), labels=(1,), ignore=None, axes="RAS", **more):
    """A case of one model from arrays."""
    truth = synthetic.write(folder / "truth.nii.gz", np.asarray(classes, np.uint8), spacing, axes)
    prediction = synthetic.write(folder / "prediction.nii.gz", np.asarray(predicted, np.uint8), spacing, axes)
    scan = None if image is None else synthetic.write(folder / "image.nii.gz", image, spacing, axes)
    made = synthetic.small(count=1, cases=1, labels=Labels({"organ": labels}, ignore), **more)
    pair = CasePair(made.models[0].name, "0", "test", "liver_test_000", truth, prediction, scan)
    return replace(made, pairs=[pair])


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PLI", "SAR"])
def test_the_slice_with_the_largest_reference(tmp_path, axes):
    """Largest in slice 5, where the patient's right front is organ; the prediction lacks its left half."""
    classes = np.zeros((40, 30, 8))
    classes[2:4, 2:4, 2] = 1
    classes[10:40, 15:30, 5] = 1
    predicted = classes.copy()
    predicted[:25] = 0
    made = flat(tmp_path, classes, predicted, axes=axes)
    found = panels(made)
    rgb = pixels(found[made.models[0].name])
    purple, yellow = (np.abs(rgb - OPACITY * paint).max(axis=-1) < 0.1 for paint in (PURPLE, YELLOW))
    rows, columns = np.nonzero(purple)
    assert 0.15 < purple.mean() < 0.25
    np.testing.assert_allclose(purple.sum(), yellow.sum(), rtol=0.1)
    assert rows.mean() < 0.5 * rgb.shape[0]  # front is up
    assert columns.mean() < np.nonzero(yellow)[1].mean()  # right is on the left


def test_pixels_are_square(tmp_path):
    """A square of 20 x 20 mm of pixels of 1 x 4 mm."""
    classes = np.zeros((60, 20, 3))
    classes[20:40, 8:13, 1] = 1
    found = panels(flat(tmp_path, classes, classes, spacing=(1.0, 4.0, 3.0)))
    rows, columns = np.nonzero(np.abs(pixels(found["Reference"]) - OPACITY * PURPLE).max(axis=-1) < 0.1)
    np.testing.assert_allclose(np.ptp(rows), np.ptp(columns), rtol=0.06)


def test_nothing_coloured_is_cut_off(tmp_path):
    classes, predicted = np.zeros((100, 100, 3)), np.zeros((100, 100, 3))
    classes[40:50, 40:50, 1] = predicted[0:3, 97:100, 1] = 1
    made = flat(tmp_path, classes, predicted)
    assert coloured(panels(made)[made.models[0].name], GREEN) > 0.0003
    assert coloured(panels(made)["Image"], PURPLE) == 0


def test_ignored_voxels_are_neither(tmp_path):
    classes, predicted = np.ones((30, 30, 3)), np.ones((30, 30, 3))
    classes[15:], classes[:5] = 9, 0
    made = flat(tmp_path, classes, predicted, ignore=9)
    panel = panels(made)[made.models[0].name]
    assert coloured(panel, GREEN) == pytest.approx(5 / 30, abs=0.02)
    assert coloured(panel, PURPLE) == pytest.approx(10 / 30, abs=0.02)


def test_labels_that_are_not_measured_are_background(tmp_path):
    classes = np.zeros((30, 30, 3))
    classes[10:20, :, 1], classes[:, :, 0] = 1, 7
    found = panels(flat(tmp_path, classes, classes))
    assert 0.2 < coloured(found["Reference"], PURPLE) < 0.5


def test_an_empty_reference_shows_what_was_predicted(tmp_path):
    predicted = np.zeros((30, 30, 6))
    predicted[5:20, 5:20, 4] = 1
    made = flat(tmp_path, np.zeros_like(predicted), predicted)
    found = panels(made)
    assert coloured(found[made.models[0].name], GREEN) > 0.1
    assert found["Reference"].note


def test_everything_empty(tmp_path):
    empty = np.zeros((30, 20, 3))
    found = pixels(panels(flat(tmp_path, empty, empty))["Reference"])
    assert found.shape == (200, 300, 3)  # the whole slice
    assert found.max() < 0.02


@pytest.mark.parametrize(("is_ct", "level"), [(True, 0.5), (False, None)])
def test_the_window(tmp_path, is_ct, level):
    """Of CT -160 to 240 HU: 40 is half grey. Of anything else what there is: the two halves are black and white."""
    image = np.full((40, 40, 3), 40, np.int16)
    if not is_ct:
        image[20:] = 5000
    classes = np.zeros((40, 40, 3))
    classes[1:39, 1:39, 1] = 1
    rgb = pixels(panels(flat(tmp_path, classes, classes, image, is_ct=is_ct))["Image"])
    if is_ct:
        np.testing.assert_allclose(rgb, level, atol=0.03)
    else:
        assert (rgb.min() < 0.05) & (rgb.max() > 0.95)


def test_without_an_image_it_is_drawn_on_black(one):
    made = one[0]
    found = panels(replace(made, pairs=[replace(pair, image=None) for pair in made.pairs]))
    assert "not found" in found["Image"].note
    assert pixels(found["Image"]).max() < 0.02
    assert coloured(found["Reference"], PURPLE) > 0.2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:400]),
        lambda path: path.write_bytes(b"no image at all"),
        lambda path: path.write_bytes(b""),
        lambda path: synthetic.write(path, np.zeros((3, 4, 5), np.uint8)),
    ],
    ids=["gone", "cut", "rubbish", "empty", "other grid"],
)
@pytest.mark.parametrize("which", ["image", "truth", "prediction"])
def test_a_file_that_cannot_be_read(one, damage, which):
    made = one[0]
    path = getattr(made.pairs[0], which)
    damage(path)
    found = panels(made)
    if which == "image":
        assert "image" in path.parts[-2]
        assert path.name in found["Image"].note
        assert all(found[model.name].source for model in made.models)
    elif which == "truth":
        assert any(path.name in panel.note or "its grid is" in panel.note for panel in found.values())
    else:
        assert path.name in found[made.models[0].name].note
        assert not found[made.models[0].name].source
        assert found[made.models[1].name].source


def test_a_model_without_a_prediction(one):
    made = one[0]
    found = panels(replace(made, pairs=made.pairs[:1]))
    assert found[made.models[1].name].note == "No prediction."


def test_no_files_are_known(one):
    made = one[0]
    assert [panel.note for panel in panels(replace(made, pairs=[])).values()] == [
        "The benchmark does not say where the segmentations are."
    ]


def test_only_the_three_cases_are_read(tmp_path, monkeypatch):
    made = synthetic.with_files(synthetic.small(cases=6), tmp_path)
    opened = []
    monkeypatch.setattr(volumes, "load", lambda path: opened.append(path) or nib.Nifti1Image.from_filename(path))
    cases = {shown.case for shown in show(made, "test")}
    assert len(cases) == 3
    assert {path.name.removesuffix(".nii.gz").removesuffix("_0000") for path in opened} == cases


def test_photographs(tmp_path):
    """Two-dimensional PNG, as nnU-Net's reader of natural images has them."""
    classes = np.zeros((30, 40), np.uint8)  # rows, columns
    classes[2:10, 3:35] = 1
    for name in ("truth", "prediction"):
        sitk.WriteImage(sitk.GetImageFromArray(classes), str(tmp_path / f"{name}.png"))
    photograph = np.repeat(255 * classes[..., None], 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(photograph, isVector=True), str(tmp_path / "image.png"))
    made = synthetic.small(1, 1, is_ct=False)
    files = [Path(tmp_path / f"{name}.png") for name in ("truth", "prediction", "image")]
    made = replace(made, pairs=[CasePair(made.models[0].name, "0", "test", "liver_test_000", *files)])
    found = panels(made)
    assert not any(panel.note for panel in found.values())
    rows, _ = np.nonzero(pixels(found["Image"])[..., 0] > 0.5)
    assert rows.mean() < 0.5 * len(pixels(found["Image"]))
