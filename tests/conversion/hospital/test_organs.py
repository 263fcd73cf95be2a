from pathlib import Path

import pytest

from nnunetv2_unet3plus.conversion.findings import FaultyFileError
from nnunetv2_unet3plus.conversion.hospital.organs import choose, is_mask_name, matching, synonyms, words_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Milz_links2", ["milz", "links"]),
        ("LIVER", ["liver"]),
        ("organLiver", ["organ", "liver"]),
        ("Śledziona", ["sledziona"]),
        ("HÍGADO (2)", ["higado"]),
        ("脾臓", ["脾臓"]),
        ("Селезёнка", ["селезенка"]),
        ("비장", ["비장"]),
        ("007", []),
    ],
)
def test_words(name, words):
    assert words_of(name) == words


@pytest.mark.parametrize(
    "name",
    ["spleen", "SPLEEN", "Milz", "rate", "bazo", "Milza", "baço", "BACO", "селезенка", "Селезёнка", "脾", "비장"],
)
def test_every_language(name):
    assert matching({1: "BODY", 2: name, 3: "Leber"}, "spleen") == [2]
    assert "milz" in synonyms(name)


@pytest.mark.parametrize(
    ("names", "organ", "found"),
    [
        (["Liver", "Liver_PTV"], "liver", [0]),
        (["Liver minus GTV", "Liver lesion", "PTV liver"], "liver", []),
        (["Liver", "Liver tumor"], "liver tumor", [1]),
        (["Right kidney"], "left kidney", []),
        (["Niere links", "left Kidney", "left kidney cyst"], "left kidney", [1]),
        (["Adrenal gland left", "Prostate gland"], "adrenal gland", [0]),
        (["Liver_1", "Liver_2"], "liver", [0, 1]),
        (["Liver_1", "Liver_2"], "Liver_2", [1]),
        (["sleeve", "delivery"], "liver", []),
        (["Aorta", "Liver"], "aorta", [0]),
        ([], "liver", []),
    ],
)
def test_matching(names, organ, found):
    assert matching(dict(enumerate(names)), organ) == found


def test_choice_is_told():
    findings = []
    assert choose({4: "Liver"}, "foie", Path("m"), findings) == 4
    assert not findings
    assert choose({4: "Liver old JD"}, "foie", Path("m"), findings) == 4
    assert [finding.kind for finding in findings] == ["warning"]
    assert "JD" in findings[0].shown
    assert "JD" not in str(findings[0].reported)


@pytest.mark.parametrize(
    ("names", "fault"), [({1: "Aorta"}, "no such organ"), ({1: "Liver a", 2: "Liver b"}, "several masks")]
)
def test_choice_refused(names, fault):
    with pytest.raises(FaultyFileError, match="|".join(names.values())) as caught:
        choose(names, "liver", Path("m"), [])
    assert caught.value.finding.fault == fault


@pytest.mark.parametrize(
    ("name", "answer"), [("scan", False), ("CT_seg", True), ("Leber", True), ("maskerade", False), ("Thymus 2", True)]
)
def test_mask_names(name, answer):
    assert is_mask_name(name, "thymus") is answer
