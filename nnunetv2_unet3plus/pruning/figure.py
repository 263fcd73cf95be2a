"""What pruning costs, as a picture: accuracy against time and size, one point a level (Zhou et al., TMI 2020)."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from nnunetv2_unet3plus.pruning.levels import Level

LARGEST_MARKER = 400  # points squared, of the whole network; the others' areas follow their parameters
SMALLEST_MARKER = 15
SCORES = (("dice", "Dice", "tab:purple"), ("iou", "IoU", "tab:green"))


def draw(levels: Sequence[Level], chosen: Level) -> Figure:
    """Draw Dice and IoU of every level against seconds a scan and against parameters.

    Args:
        levels: all levels, the whole network's last.
        chosen: is drawn filled.

    Returns:
        Two panels; the area of a point is that of the level's parameters.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_time, by_size = figure.subplots(1, 2, sharey=True)
    areas = [max(SMALLEST_MARKER, LARGEST_MARKER * each.parameters / levels[-1].parameters) for each in levels]
    for panel, label, cost in (
        (by_time, "seconds a scan", [each.seconds for each in levels]),
        (by_size, "million parameters", [each.parameters / 1e6 for each in levels]),
    ):
        for attribute, name, color in SCORES:
            scores = [100 * getattr(each, attribute) for each in levels]
            filled = [color if each == chosen else "white" for each in levels]
            panel.plot(cost, scores, color=color, label=name, linewidth=1)
            panel.scatter(cost, scores, areas, filled, edgecolors=color, zorder=3)
            for each, x, y in zip(levels, cost, scores, strict=True):
                panel.annotate(f"L{each.level}", (x, y), (0, 12), textcoords="offset points", ha="center", fontsize=8)
        panel.set_xlabel(label)
        panel.margins(x=0.12, y=0.2)  # the axis shows the differences: half a point counts
        panel.grid(alpha=0.3)
    by_time.set_ylabel("%")
    by_size.legend(loc="lower right", frameon=False)
    return figure
