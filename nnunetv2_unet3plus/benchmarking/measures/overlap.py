"""How much two masks share: nnU-Net's definitions (nnunetv2.evaluation.evaluate_predictions)."""

import numpy as np


def measure_overlap(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Dice and IoU of two masks of bool, NaN where both are empty."""
    shared = np.count_nonzero(truth & prediction)
    both = np.count_nonzero(truth) + np.count_nonzero(prediction)
    if not both:
        return {"dice": float("nan"), "iou": float("nan")}
    return {"dice": 2 * shared / both, "iou": shared / (both - shared)}
