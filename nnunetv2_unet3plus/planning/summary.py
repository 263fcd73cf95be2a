"""What `unet3plus plan` says at its end: what each configuration takes, and the commands that come next."""

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.planning.planner import NetworkPlanner
from nnunetv2_unet3plus.planning.preprocessed import not_preprocessed


def summary(plans: PlansManager, planner: NetworkPlanner) -> str:
    """Several lines to print.

    Args:
        plans: as written.
        planner: that made them.
    """
    number = int(plans.dataset_name[len("Dataset") :].split("_")[0])
    name, network = plans.plans_name, planner.network
    train = f"-tr {network.trainer} -p {name}"
    lines = [
        f"{name}.json: {network.network_class.__name__} within {planner.UNet_vram_target_GB:g} GB",
        *_table(plans, planner),
        "next:",
    ]
    if missing := not_preprocessed(plans, planner.dataset):
        lines.append(f"  nnUNetv2_preprocess -d {number} -plans_name {name} -c {' '.join(missing)}")
    lines += [
        f"  nnUNetv2_train {number} {configuration} 0 {train}" for configuration in plans.available_configurations
    ]
    if "2.5d" in plans.available_configurations:
        lines.append("2.5d learns from the data of 2d: a patch is several slices, each seen with its two neighbours.")
    if network.stock_trainer:
        lines.append(
            "nnU-Net's own trainer trains this network as well, on one GPU: leave out -tr, here and in "
            "nnUNetv2_predict."
        )
    return "\n".join(lines)


def _table(plans: PlansManager, planner: NetworkPlanner) -> list[str]:
    budget = f"GB of {planner.UNet_vram_target_GB:g}"
    lines = [f"  {'configuration':20}{'patch':>18}{'batch':>8}{'stages':>8}{budget:>12}"]
    for name in plans.available_configurations:
        configuration = plans.get_configuration(name)
        architecture, batch_size = configuration.configuration["architecture"], configuration.batch_size
        gigabytes = planner.cost(architecture, configuration.patch_size).gigabytes(batch_size)
        patch = " x ".join(map(str, configuration.patch_size))
        stages = architecture["arch_kwargs"]["n_stages"]
        lines.append(f"  {name:20}{patch:>18}{batch_size:>8}{stages:>8}{gigabytes:>12.1f}")
    return lines
