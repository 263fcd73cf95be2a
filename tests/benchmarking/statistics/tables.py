"""Case tables for tests."""

import math

import pandas as pd

from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, MEASURES

NAN = math.nan


def table(measure="dice", label="liver", split="validation", **models):
    """Model -> one measure's values of one label, in cases `c00`, `c01`, ...; None where there is no row."""
    rows = [
        dict.fromkeys(MEASURES, NAN)
        | {"model": model, "fold": "0", "split": split, "case": f"c{case:02d}", "label": label, measure: value}
        for model, values in models.items()
        for case, value in enumerate(values)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=list(CASE_COLUMNS))
