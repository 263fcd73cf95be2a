import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunetv2_unet3plus.benchmarking.report import write
from nnunetv2_unet3plus.benchmarking.report.page import MOST_CLASSES, MOST_PROBLEMS
from nnunetv2_unet3plus.benchmarking.report.write import write_report
from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, MEASURES, Labels, Model
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.report import synthetic

FILES = {"report.html", "results.csv", "table.md", "table.tex"}
VOID = {"meta", "link", "br", "img", "wbr"}
NASTY = "<b>Tom & \"Jerry\"_100%</b> $x$ #1 ~^\\ {z} | 'q' 模"


class Page(HTMLParser):
    """A page's elements; fails where they are not properly nested."""

    def __init__(self, file):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(file.read_text())
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())

    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def report(made, folder):
    write_report(made, folder)
    assert {each.name for each in folder.iterdir()} == FILES
    assert (folder / "report.html").stat().st_size < 10e6
    page = Page(folder / "report.html")
    assert "nan" not in page.words.lower().split()
    return page


def test_every_section_is_there(ordinary):
    made, folder = ordinary
    page = Page(folder / "report.html")
    sections = ["test", "validation", "cost", "training", "cases", "papers", "models", "measures"]
    assert [each for each in page.ids() if each in sections] == sections
    assert all(value in page.words for value in made.settings.values())
    assert all(model.name in page.words and str(model.folder) in page.words for model in made.models)
    assert all(measure.meaning in page.words for measure in MEASURES.values())
    # a split: forest and ranks of three measures, boxes of two classes in three; six costs; two curves a model
    assert page.count("svg") == 2 * (2 * 3 + 2 * 3) + 6 + 2 * 4
    assert page.count("img") == 3 * (2 + 4)


def test_ids_are_unique_and_links_lead_somewhere(ordinary):
    page = Page(ordinary[1] / "report.html")
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    used = {attributes["xlink:href"][1:] for tag, attributes in page.tags if tag == "use"}
    assert links | used <= set(ids)


def test_the_page_refers_to_nothing_outside(ordinary):
    for _, attributes in Page(ordinary[1] / "report.html").tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    text = (ordinary[1] / "report.html").read_text()
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")


def test_the_case_table_survives(ordinary):
    made, folder = ordinary
    read = pd.read_csv(folder / "results.csv", dtype={"fold": str})
    assert list(read.columns) == list(CASE_COLUMNS)
    pd.testing.assert_frame_equal(read, made.cases, check_dtype=False)


def test_same_benchmark_same_bytes(ordinary, tmp_path):
    made, folder = ordinary
    write_report(made, tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_changed_benchmark_replaces_the_report(tmp_path):
    report(synthetic.small(), tmp_path)
    page = report(synthetic.small(problems=["fold 3 was not trained"]), tmp_path)
    assert "fold 3 was not trained" in page.words


def test_nothing_is_missing(tmp_path):
    made = synthetic.small()
    without = made.cases["case"] == "liver_test_001"  # a scan without liver: of its measures this one is defined
    made.cases.loc[without, "false_positive_scan"] = 0.0
    assert "Nothing is missing." in report(made, tmp_path).words


def test_problems_are_listed(tmp_path):
    problems = [f"problem number {index}" for index in range(MOST_PROBLEMS + 50)]
    words = report(synthetic.small(problems=problems), tmp_path).words
    assert "Nothing is missing" not in words
    assert f"problem number {MOST_PROBLEMS - 1}" in words
    assert f"problem number {MOST_PROBLEMS}" not in words
    assert "more that are not listed here" in words


def test_a_case_that_lacks_in_a_model_is_a_problem(tmp_path):
    made = synthetic.small(cases=8)
    lacks = (made.cases["model"] == made.models[1].name) & (made.cases["case"] == "liver_test_003")
    words = report(replace(made, cases=made.cases[~lacks]), tmp_path).words
    assert "UNet3Plus lacks 1 of 8 cases (liver_test_003)" in words


@pytest.mark.parametrize(("models", "cases"), [(1, 1), (1, 7), (2, 1), (12, 7)])
def test_few_and_many(tmp_path, models, cases):
    made = synthetic.small(models, cases)
    names = [model.name for model in made.models]
    page = report(replace(made, cases=synthetic.case_table(names, cases, ("liver",), ("validation",))), tmp_path)
    assert ("nothing to compare it with" in page.words) == (models == 1)
    assert ("Validation of fold 0." if cases == 1 else "Validation of folds 0 and 1.") in page.words


def test_no_case_at_all(tmp_path):
    made = synthetic.small(models=[synthetic.model("nnUNetTrainer", 0, epochs=0)])
    page = report(replace(made, cases=pd.DataFrame(columns=list(CASE_COLUMNS))), tmp_path)
    assert "No case has been measured" in page.words
    assert "30.5" in page.words
    assert "no case has been measured" in (tmp_path / "table.md").read_text()


def test_no_model_at_all(tmp_path):
    assert "There is no model." in report(replace(synthetic.small(), models=[]), tmp_path).words


def test_nothing_is_known(tmp_path):
    made = synthetic.small(settings={})
    made.cases[list(MEASURES)] = math.nan
    page = report(made, tmp_path)
    for line in ("No training curves are known.", "No case has a Dice", "No model has both a Dice and a known cost."):
        assert line in page.words


def test_infinite_values_are_left_out(tmp_path):
    made = synthetic.small()
    made.cases.loc[3, "hd95"] = np.inf
    words = report(made, tmp_path).words
    assert "infinite" in words
    assert "inf" not in words.split()


def test_columns_that_are_not_floating_point(tmp_path):
    made = synthetic.small()
    report(made, tmp_path / "float")
    report(replace(made, cases=made.cases.astype(object)), tmp_path / "object")
    assert (tmp_path / "object/report.html").read_text() == (tmp_path / "float/report.html").read_text()


def test_rows_twice_are_said_and_the_rest_is_made(tmp_path):
    made = synthetic.small()
    words = report(replace(made, cases=pd.concat([made.cases, made.cases.iloc[:1]])), tmp_path).words
    assert "has several rows of liver in case liver_test_000" in words
    assert "Dice cannot be compared" in words


def test_names_are_shown_as_they_are(tmp_path):
    names = [f"{NASTY} {index}" for index in range(3)]
    labels = (NASTY, f"{NASTY}'s lesion")
    made = synthetic.benchmark(models=3, cases=7, labels=labels, splits=("test",))
    models = [replace(synthetic.model(name, index), folder=Path(NASTY)) for index, name in enumerate(names)]
    cases = synthetic.case_table(names, 7, labels, ("test",))
    cases["case"] = NASTY + cases["case"]
    made = replace(
        made, models=models, cases=cases, dataset=NASTY, settings={NASTY: NASTY}, problems=[NASTY], is_ct=False
    )
    page = report(made, tmp_path)
    assert "<b>Tom" not in (tmp_path / "report.html").read_text()
    for name in [*names, *labels, f"{NASTY}liver_test_000", f"{NASTY} 1 less {NASTY} 0"]:
        assert name in page.words
    shown = pd.read_csv(tmp_path / "results.csv")
    assert set(shown["model"]) == set(names)


def test_many_classes_stay_small(tmp_path):
    labels = tuple(f"class_{index}" for index in range(MOST_CLASSES + 4))
    made = synthetic.small(labels=Labels({label: (1 + index,) for index, label in enumerate(labels)}))
    names = [model.name for model in made.models]
    page = report(replace(made, cases=synthetic.case_table(names, 3, labels, ("test",))), tmp_path)
    assert page.count("svg") == 3 + 3 * MOST_CLASSES  # three cases are too few for ranks
    assert f"The {MOST_CLASSES} classes with the lowest mean Dice, of {len(labels)}." in page.words
    assert all(label in page.words for label in labels)


def test_the_number_of_cases_does_not_show_in_the_size(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    report(synthetic.small(cases=61), few)
    report(synthetic.small(cases=1000), many)
    assert (many / "report.html").stat().st_size < 1.1 * (few / "report.html").stat().st_size


@pytest.mark.parametrize(("liver", "said"), [((1, 2), False), ((1,), True)])
def test_whether_our_liver_holds_its_tumours(tmp_path, liver, said):
    words = report(synthetic.small(labels=Labels({"liver": liver, "tumour": (2,)}, ignore=3)), tmp_path).words
    assert ("Our class liver does not hold tumour" in words) == said


def test_a_model_without_results_is_shown(tmp_path):
    made = synthetic.small()
    made.models.append(Model("nnUNetTrainerVNet_50epochs", Path("nowhere"), ()))
    assert "VNet has no results here" in report(made, tmp_path).words


def test_the_page_comes_last_and_the_old_one_stays(tmp_path, monkeypatch):
    report(synthetic.small(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(write, "render", fail)
    with pytest.raises(MemoryError):
        write_report(synthetic.small(3), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == FILES
    assert "UNet3PlusCGM" in (tmp_path / "table.md").read_text()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(UserError, match="report: "):
        write_report(synthetic.small(), tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"
