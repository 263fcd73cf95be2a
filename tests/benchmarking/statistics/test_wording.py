import pytest

from nnunetv2_unet3plus.benchmarking.statistics.paired import MEAN, Comparison, compare
from tests.benchmarking.statistics.tables import table

A, B = "nnUNetTrainerUNet3Plus", "nnUNetTrainer"


def comparison(measure="dice", label=MEAN, **values):
    figures = {"difference": 0.0123, "low": 0.0041, "high": 0.0212, "p": 0.001, "p_holm": 0.003, "rank_biserial": 0.3}
    counts = {"cases": 131, "wins": 80, "ties": 1, "losses": 50}
    return Comparison(measure=measure, label=label, first=A, second=B, **(figures | counts | values))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            comparison(),
            f"{A} has a higher Dice than {B}, by 0.012 (95 % interval 0.004 to 0.021, 131 cases, p = 0.003 after "
            "Holm's correction).",
        ),
        (
            comparison(label="liver", difference=-0.0123, low=-0.0212, high=-0.0041, rank_biserial=-0.3, p_holm=1e-9),
            f"liver: {B} has a higher Dice than {A}, by 0.012 (95 % interval 0.004 to 0.021, 131 cases, p < 0.001 "
            "after Holm's correction).",
        ),
        (
            comparison("hd95", difference=1.26, low=0.44, high=2.13),
            f"{B} has a lower HD95 than {A}, by 1.3 mm (95 % interval 0.4 to 2.1 mm, 131 cases, p = 0.003 after "
            "Holm's correction).",
        ),
        (
            comparison("volume_error", difference=-126.3, low=-213.1, high=-44.4, rank_biserial=-0.3),
            f"{A} has a lower absolute volume error than {B}, by 126 ml (95 % interval 44 to 213 ml, 131 cases, "
            "p = 0.003 after Holm's correction).",
        ),
        (
            comparison("false_positive_scan", "tumour", difference=-1.26, low=-2.13, high=-0.44, rank_biserial=-0.3),
            f"tumour: {A} has a lower false-positive volume in scans without the class than {B}, by 1.3 ml (95 % "
            "interval 0.4 to 2.1 ml, 131 cases, p = 0.003 after Holm's correction).",
        ),
        (
            comparison(difference=0.00002, low=-0.00014, high=0.00018, p_holm=0.456),
            f"No evidence of a difference in Dice between {A} and {B} ({A} less {B}: 0.00002, 95 % interval -0.00014 "
            "to 0.00018, 131 cases, p = 0.46 after Holm's correction).",
        ),
        (
            comparison(cases=3, p=float("nan"), p_holm=float("nan"), low=float("nan"), high=float("nan")),
            f"Too few cases (3) to tell {A} and {B} apart in Dice: at least 6 are needed.",
        ),
        (
            comparison(cases=8, ties=6, p=0.5, p_holm=1.0, low=float("nan"), high=float("nan")),
            f"Too few of the 8 cases differ (2) to tell {A} and {B} apart in Dice.",
        ),
        (
            comparison(low=-0.001),
            f"Unclear whether {A} and {B} differ in Dice: the test says so, but the interval of the mean holds 0 "
            f"({A} less {B}: 0.012, 95 % interval -0.001 to 0.021, 131 cases, p = 0.003 after Holm's correction).",
        ),
        (
            comparison(p_holm=0.05),
            f"Unclear whether {A} and {B} differ in Dice: the interval of the mean excludes 0, but the test does not "
            f"confirm it ({A} less {B}: 0.012, 95 % interval 0.004 to 0.021, 131 cases, p = 0.05 after Holm's "
            "correction).",
        ),
        (
            comparison(rank_biserial=-0.3),
            f"Unclear whether {A} and {B} differ in Dice: the mean speaks for one, the ranks of the cases for the "
            f"other ({A} less {B}: 0.012, 95 % interval 0.004 to 0.021, 131 cases, p = 0.003 after Holm's correction).",
        ),
    ],
)
def test_sentence(found, sentence):
    assert found.sentence == sentence


def test_all_ties():
    found = compare(table(A=[0.5] * 8, B=[0.5] * 8), ["A", "B"], "dice", ["liver"])
    assert found[0].sentence == "No evidence of a difference in Dice between A and B: they tie in all 8 cases."


def test_two_that_differ():
    found = compare(table(A=[0.5] * 8, B=[0.5] * 6 + [0.4, 0.3]), ["A", "B"], "dice", ["liver"])
    assert found[0].sentence == "Too few of the 8 cases differ (2) to tell A and B apart in Dice."


def test_no_cases():
    found = compare(table(A=[0.5] * 8), ["A", "B"], "dice", ["liver"])
    assert found[0].sentence == "Too few cases (0) to tell A and B apart in Dice: at least 6 are needed."


def test_many_small_losses_and_few_large_gains_are_no_claim():
    """1000 cases, of which 850 are a little worse and 150 much better."""
    first = [0.5 - 0.0001 * (1 + case % 7) for case in range(850)] + [0.9 + 0.0001 * case for case in range(150)]
    (found, _) = compare(table(A=first, B=[0.5] * 1000), ["A", "B"], "dice", ["liver"])
    assert found.low > 0
    assert found.p_holm < 0.001
    assert found.sentence.startswith("Unclear whether A and B differ in Dice: the mean speaks for one, the ranks")
