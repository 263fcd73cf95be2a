"""Datasets as nnU-Net's planners see them: a dataset.json, names of cases and a fingerprint, no image."""

import json

import pytest

CT = {"mean": 100.0, "median": 100.0, "std": 20.0, "min": 0.0, "max": 200.0, "percentile_00_5": 5.0}


class Dataset:
    def __init__(self, root, name, spacing, shape, **dataset_json):
        self.name = name
        self.raw, self.preprocessed = root / "raw" / name, root / "preprocessed" / name
        for folder in (self.raw / "imagesTr", self.raw / "labelsTr", self.preprocessed):
            folder.mkdir(parents=True)
        cases = {}
        for case in ("a", "b"):
            image, label = self.raw / "imagesTr" / f"{case}_0000.nii.gz", self.raw / "labelsTr" / f"{case}.nii.gz"
            image.touch()
            label.touch()
            cases[case] = {"images": [str(image)], "label": str(label)}
        description = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1, "tumour": 2},
            "numTraining": 100,
            "file_ending": ".nii.gz",
            "dataset": cases,  # which spares nnU-Net the processes it would look for files with
            "overwrite_image_reader_writer": "SimpleITKIO",
        }
        fingerprint = {
            "spacings": [spacing] * 2,
            "shapes_after_crop": [shape] * 2,
            "foreground_intensity_properties_per_channel": {"0": CT | {"percentile_99_5": 195.0}},
            "median_relative_size_after_cropping": 1.0,
        }
        (self.raw / "dataset.json").write_text(json.dumps(description | dataset_json))
        (self.preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))

    def plans(self, name="nnUNetUNet3PlusPlans"):
        return json.loads((self.preprocessed / f"{name}.json").read_text())


@pytest.fixture
def make_dataset(tmp_path, monkeypatch):
    """make_dataset(spacing, shape): thin slices of a small abdomen, unless told otherwise."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))

    def make(spacing=(1.0, 0.8, 0.8), shape=(48, 160, 160), name="Dataset901_Liver", **dataset_json):
        return Dataset(tmp_path, name, spacing, shape, **dataset_json)

    return make
