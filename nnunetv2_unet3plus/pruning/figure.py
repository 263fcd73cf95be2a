"""What pruning costs, as a picture: accuracy against time and size, one point a level (Zhou et al., TMI 2020)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from nnunetv2_unet3plus.pruning.levels import Level


def draw(levels: Sequence[Level], chosen: Level, path: Path) -> None:
    """Write a PNG.

    Args:
        levels: all levels, the whole network's last.
        chosen: is drawn filled.
        path: of the picture.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    costs = {
        "seconds a scan": [each.seconds for each in levels],
        "million parameters": [each.parameters / 1e6 for each in levels],
    }
    for panel, (label, cost) in zip(axes, costs.items(), strict=True):
        for name, color in (("dice", "tab:purple"), ("iou", "tab:green")):
            scores = [100 * getattr(each, name) for each in levels]
            panel.plot(cost, scores, color=color, label={"dice": "Dice", "iou": "IoU"}[name], linewidth=1)
            filled = [color if each == chosen else "white" for each in levels]
            panel.scatter(cost, scores, facecolors=filled, edgecolors=color, s=50, zorder=3)
        for each, x in zip(levels, cost, strict=True):
            panel.annotate(f"L{each.level}", (x, 100 * each.dice), (0, 7), textcoords="offset points", ha="center")
        panel.set_xlabel(label)
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
        panel.margins(y=0.15)
    axes[0].set_ylabel("%")
    axes[1].legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
