"""The table of costs in docs/reproducing-the-papers.md: what the trainings that the page names would take.

    python -m benchmarks.expected_hours      # from the repository's root; nothing is trained, nothing computed

Reads the page's `unet3plus benchmark` commands, makes the plans they ask for on a data set of LiTS's shape, the whole
liver as the only class, and prints for every trainer's network parameters, GFLOP, memory by the model in
`nnunetv2_unet3plus.planning.memory`, and the hours of a fold by that in
`nnunetv2_unet3plus.benchmarking.costs.hours`; none where the GPU has not as much memory.
"""

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from benchmarks.planned_memory import DATASETS, write_dataset
from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.benchmarking.costs.hours import IN_PLANE, TERAFLOPS, expected_hours
from nnunetv2_unet3plus.benchmarking.costs.network import input_channels_of, network_costs, network_of
from nnunetv2_unet3plus.benchmarking.costs.trainer import trainer_to_ask
from nnunetv2_unet3plus.building_blocks.recompute import as_compiled
from nnunetv2_unet3plus.doctor import find_trainer
from nnunetv2_unet3plus.planning.dry_run import backward_share
from nnunetv2_unet3plus.planning.memory import GB, OVERHEAD_GB, SINGLE_PRECISION_FACTOR, STATE_BYTES
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes

PAGE = Path(__file__).parents[1] / "docs" / "reproducing-the-papers.md"
NUMBER, NAME = "501", "LiTS"
GPU_GB = {"A100": 40, "V100": 32, "RTX 2080 Ti": 11}


@dataclass(frozen=True)
class Row:
    """A training.

    Attributes:
        configuration: `2d`, ...
        plans: name of the plans.
        trainer: its name.
    """

    configuration: str
    plans: str
    trainer: str


def commands(page: str) -> list[list[str]]:
    """The arguments of every line of the page's code that runs `unet3plus` or nnU-Net, continued lines joined."""
    code = "\n".join(re.findall(r"```bash\n(.*?)```", page, re.S)).replace("\\\n", " ")
    return [words for line in code.splitlines() if (words := shlex.split(line, comments=True))]


def rows(page: str, number: str = NUMBER) -> list[Row]:
    """The page's trainings on a data set in their order, each once."""
    found = [
        Row(option(words, "-c")[0], option(words, "-p")[0], trainer)
        for words in commands(page)
        if words[:2] == ["unet3plus", "benchmark"] and option(words, "-d") == [number]
        for trainer in option(words, "-tr")
    ]
    return list(dict.fromkeys(found))


def option(words: list[str], name: str) -> list[str]:
    """The values behind an option; none if it is not there."""
    if name not in words:
        return []
    values = words[words.index(name) + 1 :]
    end = next((i for i, value in enumerate(values) if value.startswith("-")), len(values))
    return values[:end]


def plan(page: str) -> None:
    """Make the plans the page's commands make, in nnU-Net's folders."""
    for words in commands(page):
        if option(words, "-d") == [NUMBER]:
            if words[0] == "nnUNetv2_plan_and_preprocess":
                memory, name = option(words, "-gpu_memory_target")[0], option(words, "-overwrite_plans_name")[0]
                ExperimentPlanner(int(NUMBER), float(memory), plans_name=name).plan_experiment()
            elif words[:2] == ["unet3plus", "plan"] and cli.main(words[1:]):
                raise SystemExit(2)


def table(page: str) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    gpus = " | ".join(f"{gpu} {memory} GB, h" for gpu, memory in GPU_GB.items())
    yield f"| configuration | trainer | parameters | GFLOP a patch | batch | memory, GB | {gpus} |"
    yield "|---" * (6 + len(GPU_GB)) + "|"
    with tempfile.TemporaryDirectory() as root:
        raw, preprocessed, results = (Path(root) / folder for folder in ("raw", "preprocessed", "results"))
        os.environ |= {"nnUNet_raw": str(raw), "nnUNet_preprocessed": str(preprocessed), "nnUNet_results": str(results)}
        write_dataset(Path(root), int(NUMBER), NAME, DATASETS[NAME], labels=("liver",))
        with redirect_stdout(StringIO()):
            plan(page)
        dataset = f"Dataset{NUMBER}_{NAME}"
        dataset_json = json.loads((raw / dataset / "dataset.json").read_text())
        for row in rows(page):
            plans = json.loads((preprocessed / dataset / f"{row.plans}.json").read_text())
            yield _line(row, plans, dataset_json)


def _line(row: Row, plans: dict, dataset_json: dict) -> str:
    arguments = (plans, row.configuration, dataset_json)
    costs: Any = network_costs(row.trainer, *arguments)
    if costs.problem:  # without one nothing is None
        raise SystemExit(costs.problem)
    batch = plans["configurations"][row.configuration]["batch_size"]
    maps = batch * _bytes_of_a_patch(row.trainer, *arguments) / SINGLE_PRECISION_FACTOR
    memory = OVERHEAD_GB + (STATE_BYTES * costs.parameters + maps) / GB
    length = (costs.epochs, costs.iterations, costs.validation_iterations)
    hours = [
        f"{expected_hours(costs.gflop, batch, *length, IN_PLANE * TERAFLOPS[gpu]):.0f}" if memory < available else "-"
        for gpu, available in GPU_GB.items()
    ]
    return (
        f"| {row.configuration} | `{row.trainer}` | {costs.parameters / 1e6:.1f} M | {costs.gflop:.0f} | {batch} | "
        f"{memory:.0f} | {' | '.join(hours)} |"
    )


def _bytes_of_a_patch(trainer_name: str, plans: dict, configuration: str, dataset_json: dict) -> float:
    """Of all maps at the peak, in single precision; as `unet3plus plan`, of a network that recomputes nothing."""
    trainer_class: Any = find_trainer(trainer_name)
    with trainer_to_ask(trainer_class, plans, configuration, dataset_json) as trainer:
        network, channels = as_compiled(network_of(trainer)), input_channels_of(trainer)
        patch_size = trainer.configuration_manager.patch_size
        # two patches: a batch norm behind global pooling has nothing to compare in one
        kept = saved_bytes(network.train(), torch.empty(2, channels, *patch_size, device="meta")) / 2
        return kept * backward_share(network, channels, patch_size, batch_size=2)


def main() -> None:
    """Plan, count and print."""
    for line in table(PAGE.read_text(encoding="utf-8")):
        print(line, flush=True)


if __name__ == "__main__":
    main()
