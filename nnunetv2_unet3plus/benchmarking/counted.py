"""Which figures of a case table count where models are shown and compared.

nnU-Net gives a scan whose reference is empty a Dice of 0 if anything is predicted, and none if nothing is: the models'
means would be over different scans, and two models compared where both have false positives only. The reference decides
here, for all models alike; the scans without the class are judged by their false positives.
"""

import pandas as pd

OF_THE_CLASS = ("dice", "iou", "hd95", "surface_dice")
"""Measures of how well a class is found: they need one in the reference."""


def absent(cases: pd.DataFrame) -> pd.Series:
    """Whether a row's reference lacks the class."""
    return cases["false_positive_scan"].notna()


def counted(cases: pd.DataFrame) -> pd.DataFrame:
    """The same rows, `OF_THE_CLASS` being NaN where the reference lacks the class.

    Args:
        cases: `CASE_COLUMNS`; left as it is.
    """
    lacking = absent(cases)
    return cases.assign(**{measure: cases[measure].mask(lacking) for measure in OF_THE_CLASS})
