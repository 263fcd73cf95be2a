import math

import numpy as np
import pandas as pd
import pytest

from nnunetv2_unet3plus.benchmarking.statistics.table import MEAN, case_values
from tests.benchmarking.statistics.tables import NAN, table


def both_labels(liver, tumour):
    return pd.concat([table(label="liver", **liver), table(label="tumour", **tumour)])


def test_mean_is_taken_over_the_labels_that_every_model_has():
    cases = both_labels(
        {"A": [0.8, 0.6, 0.4, NAN], "B": [0.6, 0.4, NAN, 0.1]},
        {"A": [0.2, NAN, 0.3, 0.5], "B": [0.4, 0.7, 0.9, NAN]},
    )
    mean = case_values(cases, ["A", "B"], "dice", ["liver", "tumour"])[MEAN]
    expected = pd.DataFrame({"A": [0.5, 0.6, 0.3], "B": [0.5, 0.4, 0.9]}, index=["c00", "c01", "c02"])
    pd.testing.assert_frame_equal(mean, expected, check_names=False)


def test_model_without_any_value_does_not_take_the_others_their_mean():
    cases = table(A=[0.8, 0.6], B=[0.7, 0.5], C=[NAN, NAN])
    mean = case_values(cases, ["A", "B", "C", "unknown"], "dice", ["liver"])[MEAN]
    assert mean["A"].tolist() == [0.8, 0.6]
    assert mean["C"].isna().all()
    assert mean["unknown"].isna().all()


def test_infinite_is_missing_and_other_labels_do_not_count():
    cases = both_labels({"A": [math.inf, 0.6], "B": [0.7, -math.inf]}, {"A": [1.0, 1.0], "B": [1.0, 1.0]})
    values = case_values(cases, ["A", "B"], "dice", ["liver"])
    assert list(values) == [MEAN, "liver"]
    np.testing.assert_array_equal(values["liver"], [[NAN, 0.7], [0.6, NAN]])
    assert values[MEAN].empty


def test_errors_with_a_sign_are_compared_by_size():
    cases = table("volume_error", A=[-3.0, 2.0], B=[1.0, -1.0])
    np.testing.assert_array_equal(case_values(cases, ["A", "B"], "volume_error", ["liver"])["liver"], [[3, 1], [2, 1]])


def test_label_without_rows_is_empty():
    assert case_values(table(A=[0.8], B=[0.7]), ["A", "B"], "dice", ["liver", "tumour"])["tumour"].empty


@pytest.mark.parametrize(
    ("cases", "labels", "message"),
    [
        (pd.concat([table(A=[0.8]), table(A=[0.7])]), ["liver"], "A has several rows of liver in case c00"),
        (pd.concat([table(A=[0.8]), table(split="test", A=[0.7])]), ["liver"], "not those of test, validation"),
        (table(label=MEAN, A=[0.8]), [MEAN], "cannot be called 'mean'"),
    ],
)
def test_ambiguous_tables_are_refused(cases, labels, message):
    with pytest.raises(ValueError, match=message):
        case_values(cases, ["A"], "dice", labels)
