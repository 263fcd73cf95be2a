"""Every planted fault is repaired, told or refused as stated, alone and all together; the source stays as it was."""

import json

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.conversion.flips import find_flip
from tests.conversion import sources
from tests.conversion.faults import FAULTS, Fault, organ, organ_scan
from tests.end_to_end.nnunet import shared_data

NAMES = dict(enumerate(FAULTS, start=1))


def plant(source, number, fault):
    """A clean pair, then the fault in it."""
    image, label = source / f"volume-{number}.nii", source / f"segmentation-{number}.nii"
    sources.write_pair(image, label, number)
    fault.plant(image, label, number)


def options_of(fault, number, tmp_path):
    table = tmp_path / "spacings.csv"
    table.write_text(f"case,x,y,z\nliver_{number:03d},0.7,0.8,2.5\n")
    return [option.format(table=table) for option in fault.options]


def convert(source, *options):
    before = sources.snapshot(source)
    code = cli.main(["convert", "lits", str(source), "-np", "1", *options])
    assert sources.snapshot(source) == before
    return code


def check_files(folder, number, fault):
    image, affine = sources.read(folder / "imagesTr" / f"liver_{number:03d}_0000.nii.gz")
    label, label_affine = sources.read(folder / "labelsTr" / f"liver_{number:03d}.nii.gz")
    np.testing.assert_array_equal(image, fault.image(number))
    np.testing.assert_array_equal(label, fault.label(number))
    np.testing.assert_allclose(affine, fault.affine, atol=1e-4)
    np.testing.assert_array_equal(affine, label_affine)


def check_findings(folder, number, fault):
    entry = json.loads((folder / "conversion_report.json").read_text())["cases"][f"liver_{number:03d}"]
    found = [(finding["kind"], finding["about"], finding["fault"]) for finding in entry["findings"]]
    if fault.kind == "none":
        assert found == []
    else:
        assert (fault.kind, fault.about, fault.name) in found
    assert entry["converted"] == (fault.kind != "refused")


def test_there_are_at_least_forty():
    assert sum(fault.kind != "none" for fault in FAULTS.values()) >= 40


@pytest.mark.parametrize("name", FAULTS)
def test_alone(name, tmp_path, raw, capsys):
    fault, source, folder = FAULTS[name], tmp_path / "source", raw / "Dataset501_LiTS"
    plant(source, 1, fault)
    plant(source, 2, FAULTS["labels in int16"])
    code = convert(source, *options_of(fault, 1, tmp_path))
    printed = capsys.readouterr()
    if fault.kind != "refused":
        assert (code, printed.err) == (0, "")
        check_findings(folder, 1, fault)
        check_files(folder, 1, fault)
        if fault.kind != "none":
            assert f"{fault.kind:8} {fault.about}, {fault.name}: liver_001" in printed.out
        return
    assert code == 2
    assert printed.err.count("\n") == 1
    file = {"image": "volume-1.nii", "label": "segmentation-1.nii"}[fault.about]
    assert f"error: {source}/{file}" in printed.err
    assert "--leave-out-refused" in printed.err
    assert not (folder / "dataset.json").exists()
    assert fault.headers == (not folder.exists())

    assert convert(source, "--leave-out-refused") == 0
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 1
    assert [path.name for path in folder.glob("*Tr/*")] == ["liver_002_0000.nii.gz", "liver_002.nii.gz"]
    check_findings(folder, 1, fault)


def test_all_together(tmp_path, raw, capsys):
    source, folder = tmp_path / "source", raw / "Dataset501_LiTS"
    faults = {number: FAULTS[name] for number, name in NAMES.items() if "--orientation" not in FAULTS[name].options}
    for number, fault in faults.items():
        plant(source, number, fault)
    (given,) = [number for number, fault in faults.items() if "--spacing-from" in fault.options]
    options = options_of(faults[given], given, tmp_path)

    assert convert(source, *options, "--dry-run") == 2
    dry = capsys.readouterr()
    assert not folder.exists()
    assert convert(source, *options, "--leave-out-refused") == 0
    printed = capsys.readouterr()
    assert [line for line in dry.out.splitlines() if line.startswith(("repaired", "warning", "refused"))] == [
        line for line in printed.out.splitlines() if line.startswith(("repaired", "warning", "refused"))
    ]
    assert f"of {len(faults)} cases cannot be converted" in dry.err
    for number, fault in faults.items():
        check_findings(folder, number, fault)
        if fault.kind != "refused":
            check_files(folder, number, fault)
    kept = sum(fault.kind != "refused" for fault in faults.values())
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == kept
    assert len(list((folder / "imagesTr").iterdir())) == kept


REPAIRED_LABELS = [name for name, fault in FAULTS.items() if (fault.kind, fault.about) == ("repaired", "label")]
OF_IMAGES = ["image: fourth axis", "orientation asked for", "image truncated", "wrong checksum", "NaN in the image"]


@pytest.mark.parametrize("second", OF_IMAGES)
@pytest.mark.parametrize("first", REPAIRED_LABELS)
def test_faults_of_image_and_label_at_once(first, second, tmp_path, raw):
    """The label's repair stands beside the image's; a refusal of either refuses the case."""
    source, folder = tmp_path / "source", raw / "Dataset501_LiTS"
    plant(source, 1, FAULTS["labels in int16"])
    plant(source, 2, FAULTS[first])
    label = (source / "segmentation-2.nii").read_bytes()
    FAULTS[second].plant(source / "volume-2.nii", source / "segmentation-2.nii", 2)
    (source / "segmentation-2.nii").write_bytes(label)  # which an image's fault may have written anew
    options = options_of(FAULTS[second], 2, tmp_path)
    assert convert(source, *options, "--leave-out-refused") == 0
    check_findings(folder, 2, FAULTS[second])
    if FAULTS[second].kind == "refused":
        assert not (folder / "labelsTr" / "liver_002.nii.gz").exists()
        return
    check_findings(folder, 2, FAULTS[first])
    check_files(folder, 2, FAULTS[second])


def test_several_faults_of_one_case(tmp_path, raw):
    """Sheared, with a fourth axis, and a label of another order whose values are not quite whole."""
    source, folder = tmp_path / "source", raw / "Dataset501_LiTS"
    plant(source, 1, FAULTS["label: axes swapped"])
    label = source / "segmentation-1.nii"
    voxels, affine = sources.read(label)
    sources.write(label, (voxels * np.float32(1 + 2e-5))[..., None], affine)
    sources.write(source / "volume-1.nii", sources.scan(1)[..., None])
    assert convert(source) == 0
    check_files(folder, 1, Fault(lambda *_: None, "none"))
    findings = json.loads((folder / "conversion_report.json").read_text())["cases"]["liver_001"]["findings"]
    assert [finding["fault"] for finding in findings] == [
        "order of axes", "fourth axis", "fourth axis", "labels not whole",
    ]  # fmt: skip


def test_report_names_hidden_files_and_sources(tmp_path, raw):
    source = sources.decathlon(tmp_path / "source", (1, 2))
    assert convert(source) == 0
    report = json.loads((raw / "Dataset501_LiTS" / "conversion_report.json").read_text())
    assert report["hidden files left out"] == [
        f"Task03_Liver/{folder}/._liver_{number}.nii.gz" for folder in ("imagesTr", "labelsTr") for number in (1, 2)
    ]
    assert report["cases"]["liver_001"]["source"]["label"] == "Task03_Liver/labelsTr/liver_1.nii.gz"


def test_dry_run_writes_nothing(tmp_path, raw, capsys):
    source = sources.challenge(tmp_path / "source", (1, 2))
    assert convert(source, "--dry-run") == 0
    assert list(raw.iterdir()) == []
    assert "nothing was written" in capsys.readouterr().out


def test_every_case_refused(tmp_path, raw, capsys):
    plant(tmp_path / "source", 1, FAULTS["NaN in the image"])
    assert convert(tmp_path / "source", "--leave-out-refused") == 2
    assert "no training case could be converted" in capsys.readouterr().err
    assert not (raw / "Dataset501_LiTS" / "dataset.json").exists()


def test_case_refused_after_its_source_was_replaced(tmp_path, raw):
    """Nothing of the older source stays in the dataset."""
    source, folder = sources.challenge(tmp_path / "source", (1, 2)), raw / "Dataset501_LiTS"
    batch = source / "Training Batch 1"
    sources.write(batch / "segmentation-2.nii", sources.mask(2) + 5)
    assert convert(source) == 2
    assert (folder / "labelsTr" / "liver_001.nii.gz").exists()
    sources.write(batch / "segmentation-1.nii", sources.mask(1) + 5)
    sources.write(batch / "segmentation-2.nii", sources.mask(2))
    assert convert(source, "--leave-out-refused") == 0
    assert [path.name for path in folder.glob("*Tr/*")] == ["liver_002_0000.nii.gz", "liver_002.nii.gz"]


def test_label_without_voxels_has_no_mirror_image():
    assert find_flip(sources.scan(1), np.zeros(sources.SIZE, np.uint8), "LPS") is None


@pytest.mark.parametrize("flipped", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("organ", [1, 5])
def test_mirrored_labels_of_a_real_scan(organ, flipped):
    """Spleen and liver: every mirror image is noticed, the right label is not. See also test_real_data."""
    folder = shared_data("totalsegmentator")
    image, _ = sources.read(folder / "example_ct.nii.gz")
    labels, affine = sources.read(folder / "example_seg_fast_force_split.nii.gz")
    axes = "".join(nib.aff2axcodes(affine))
    found = find_flip(image, np.flip(labels == organ, flipped), axes)
    assert (found is not None) == bool(flipped)


def test_axes_are_named_by_anatomy():
    for axis, words in enumerate(("up and down", "left and right", "front and back")):
        mirrored = np.flip(organ(1), axis)
        assert f"with {words} exchanged" in find_flip(organ_scan(1), mirrored, "SRA").text


def test_air_is_no_better_place_for_an_organ():
    image = np.full((24, 24, 24), -1024, np.int16)
    image[1:12, 1:23, 1:23] = np.random.default_rng(0).integers(0, 100, (11, 22, 22))
    assert find_flip(image, organ(1), "LPS") is None


class TestOddFiles:
    """Inputs that once did harm."""

    @pytest.fixture
    def source(self, tmp_path):
        return sources.challenge(tmp_path / "source", (1, 2))

    @pytest.fixture
    def batch(self, source):
        return source / "Training Batch 1"

    def test_source_replaced_by_an_older_file(self, source, batch, raw, tmp_path):
        """A stopped run is gone on with: nothing of what it has made of other files stays."""
        older = sources.write(tmp_path / "older.nii", sources.scan(77))
        sources.write(batch / "segmentation-2.nii", sources.mask(2) + 5)
        assert convert(source) == 2
        (batch / "volume-1.nii").unlink()
        (batch / "volume-1.nii").symlink_to(older)
        sources.write(batch / "segmentation-2.nii", sources.mask(2))
        assert convert(source) == 0
        found, _ = sources.read(raw / "Dataset501_LiTS" / "imagesTr" / "liver_001_0000.nii.gz")
        np.testing.assert_array_equal(found, sources.scan(77))

    @pytest.mark.parametrize("packed", [False, True])
    def test_header_that_means_more_than_the_file_holds(self, packed, source, batch, capsys):
        """Memory for it would be taken, and the process ended by the system."""
        for name in ("volume-1.nii", "segmentation-1.nii"):
            content = bytearray((batch / name).read_bytes())
            content[40:48] = np.array([3, 4000, 4000, 1000], "<i2").tobytes()
            (batch / name).write_bytes(content)
            if packed:
                sources.gzipped(batch / name)
        assert convert(source) == 2
        assert "GB of voxels, more than it can hold" in capsys.readouterr().err

    @pytest.mark.parametrize("options", [[], ["--leave-out-refused"]])
    def test_every_case_refused_then_mended(self, options, tmp_path, raw, capsys):
        source = tmp_path / "source"
        plant(source, 1, FAULTS["NaN in the image"])
        assert convert(source, *options) == 2
        assert capsys.readouterr().err.count("\n") == 1
        sources.write(source / "volume-1.nii", sources.scan(1))
        assert convert(source) == 0

    @pytest.mark.parametrize(("offset", "words"), [(0, "begin at byte 0, within the header"), (100, "100 too low")])
    def test_voxels_within_the_header(self, offset, words, source, batch, capsys):
        content = bytearray((batch / "volume-1.nii").read_bytes())
        content[108:112] = np.array([offset], "<f4").tobytes()
        (batch / "volume-1.nii").write_bytes(content)
        assert convert(source) == 2
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("field", "value"), [(108, np.nan), (108, np.inf), (80, np.nan), (280, np.nan), (256, np.inf), (268, np.nan)]
    )
    def test_numbers_that_are_none(self, field, value, source, batch, capfd):
        content = bytearray((batch / "volume-1.nii").read_bytes())
        content[field : field + 4] = np.array([value], "<f4").tobytes()
        (batch / "volume-1.nii").write_bytes(content)
        assert convert(source) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert "NaN or infinite" in error

    def test_rotation_that_is_none(self, source, batch, capfd):
        image = nib.Nifti1Image(sources.scan(1), sources.AFFINE)
        image.set_sform(None, 0)
        image.set_qform(sources.AFFINE, 1)
        nib.save(image, batch / "volume-1.nii")
        content = bytearray((batch / "volume-1.nii").read_bytes())
        content[256:268] = np.array([1, 1, 1], "<f4").tobytes()
        (batch / "volume-1.nii").write_bytes(content)
        assert convert(source, "--leave-out-refused") == 0  # ITK normalises it
        assert "Traceback" not in capfd.readouterr().err

    def test_split_of_which_a_part_is_left_out(self, tmp_path, raw, capsys):
        task = tmp_path / "source"
        for number in range(10):
            name = f"spleen_{number}.nii.gz"
            sources.write(task / "imagesTr" / name, sources.scan(number))
            sources.write(task / "labelsTr" / name, (sources.mask(number) > 0).astype(np.uint8) + 5 * (number == 0))
        command = ["convert", "spleen", str(task), "-np", "1", "--split", "paper", "--leave-out-refused"]
        for dry in (["--dry-run"], []):
            assert cli.main([*command, *dry]) == 2
            assert "no case of its train part could be converted" in capsys.readouterr().err
        assert not (raw / "Dataset509_Spleen" / "dataset.json").exists()

    def test_corrected_spacing_and_reordered_label(self, source, batch, raw, tmp_path):
        """The label's header has the true spacing and another order, the image's header neither."""
        true = np.diag([0.7, 0.8, 2.5, 1])
        sources.write(batch / "volume-1.nii", sources.scan(1), np.eye(4))
        label = nib.Nifti1Image(sources.mask(1), true)
        turn = nib.orientations.ornt_transform(nib.io_orientation(true), nib.orientations.axcodes2ornt(("L", "A", "S")))
        nib.save(label.as_reoriented(turn), batch / "segmentation-1.nii")
        (tmp_path / "table.csv").write_text("case,x,y,z\nliver_001,0.7,0.8,2.5\n")
        assert convert(source, "--spacing-from", str(tmp_path / "table.csv")) == 0
        check_files(raw / "Dataset501_LiTS", 1, Fault(lambda *_: None, "none", affine=true))

    def test_header_without_matrix(self, source, batch, raw, capsys):
        image = nib.Nifti1Image(sources.scan(1), None)
        image.header.set_zooms((0.7, 0.8, 2.5))
        nib.save(image, batch / "volume-1.nii")
        assert convert(source) == 0
        assert "warning  image, no position: liver_001 (the header holds no matrix" in capsys.readouterr().out

    def test_label_whose_header_cannot_be(self, source, batch, raw):
        plant(batch, 1, FAULTS["strong shear"])
        sources.write(batch / "volume-1.nii", sources.scan(1))
        assert convert(source) == 0
        check_files(raw / "Dataset501_LiTS", 1, Fault(lambda *_: None, "none"))
        check_findings(raw / "Dataset501_LiTS", 1, FAULTS["label: other spacing"])

    def test_ending_in_mixed_case(self, source, batch, raw, capsys):
        sources.gzipped(batch / "volume-1.nii").rename(batch / "volume-1.Nii.Gz")
        assert convert(source) == 2  # ITK knows formats by endings in one case
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "volume-1.Nii.Gz: the header cannot be read" in error

    def test_changed_description_of_a_task_is_another_conversion(self, tmp_path, capsys):
        task = tmp_path / "source"
        for number in (1, 2):
            sources.write(task / "imagesTr" / f"a_{number}.nii.gz", sources.scan(number))
            sources.write(task / "labelsTr" / f"a_{number}.nii.gz", sources.mask(number) + 5 * (number == 2))
        content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}}
        command = ["convert", "msd", str(task), "-np", "1", "-d", "7", "--name", "Mine"]
        (task / "dataset.json").write_text(json.dumps(content))
        assert cli.main(command) == 2
        (task / "dataset.json").write_text(json.dumps(content | {"labels": {"0": "background", "1": "a"}}))
        capsys.readouterr()
        assert cli.main(command) == 2
        assert "was begun with labels" in capsys.readouterr().err


class TestTableOfSpacings:
    @pytest.fixture
    def refused(self, tmp_path, refuse):
        source = sources.challenge(tmp_path / "source", (1,))

        def run(content):
            (tmp_path / "table.csv").write_text(content)
            return refuse(source, "--spacing-from", str(tmp_path / "table.csv"))

        return run

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "first line must be case,x,y,z"),
            ("liver_001,1,1,1\n", "first line must be case,x,y,z"),
            ("case,x,y,z\nliver_001,1,1\n", "line 2, 'liver_001,1,1', is not a case and three spacings"),
            ("case,x,y,z\nliver_001,1,1,thick\n", "line 2"),
            ("case,x,y,z\nliver_001,1,1,0\n", "line 2"),
            ("case,x,y,z\nliver_001,1,1,nan\n", "line 2"),
            ("case,x,y,z\nliver_001,1,1,1\n\nliver_001,1,1,2\n", "line 4 names liver_001 again"),
            ("case,x,y,z\nliver_007,1,1,1\n", "names liver_007, which is no case here; cases are such as liver_001"),
        ],
    )
    def test_content(self, content, reason, refused):
        assert reason in refused(content)

    def test_missing(self, tmp_path, refuse):
        source = sources.challenge(tmp_path / "source", (1,))
        assert f"{tmp_path}/none.csv: No such file" in refuse(source, "--spacing-from", str(tmp_path / "none.csv"))


@pytest.mark.parametrize("axes", ["RA", "RAL", "XYZ", "RASL", ""])
def test_orientation_that_is_none(axes, tmp_path, refuse):
    source = sources.challenge(tmp_path / "source", (1,))
    assert "is not one of L/R, A/P and S/I each" in refuse(source, "--orientation", axes)


def test_link_that_leads_nowhere(tmp_path, refuse):
    source = sources.challenge(tmp_path / "source", (1,))
    (source / "volume-2.nii").symlink_to(tmp_path / "gone")
    assert "volume-2.nii: a link that leads nowhere" in refuse(source)


def test_archive_in_the_folder(tmp_path, refuse):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "archive.zip").write_bytes(b"PK")
    assert "unpack archive.zip first" in refuse(tmp_path / "source")


def test_name_with_quotes_newline_and_umlaut(tmp_path, raw, capsys):
    source = sources.challenge(tmp_path / 'Dr. Müller\'s "LiTS"\nscans', (1, 2))
    assert convert(source) == 0
    sources.write(source / "Training Batch 1" / "segmentation-3.nii", sources.mask(3))
    assert cli.main(["convert", "lits", str(source), "-d", "502"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
