"""Every trainer with its network under torch.compile, as nnU-Net trains on CUDA: one graph to train, one to validate.

Graph breaks and recompilations depend neither on the device nor on code generation, which is what takes time.
"""

from copy import deepcopy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from nnunetv2_unet3plus.building_blocks.recompute import as_compiled
from nnunetv2_unet3plus.trainers import (
    nnUNetTrainerUNet3Plus,
    nnUNetTrainerUNet3PlusCGM,
    nnUNetTrainerUNet3PlusPaper,
    nnUNetTrainerUNetPlusPlus,
    nnUNetTrainerUNetSharpCGM,
    nnUNetTrainerVNet3Plus,
)
from tests.trainers.test_declarative import ALL_TRAINERS, PLAN_DRIVEN, has_enough_stages

PLANS = {
    "2d": {"patch_size": [16, 16]},
    "3d": {"dims": 3, "patch_size": [8, 16, 16], "anisotropic": True},
    "2.5d": {"patch_size": [16, 16], "stacked": {"depth": 2}},
}
# the ImageNet trainers' networks are those of the trainers without
WITH_STAGES_OF_THEIR_OWN = [t for t in ALL_TRAINERS if t not in PLAN_DRIVEN and not getattr(t, "imagenet", False)]
FAMILIES = [
    (nnUNetTrainerUNet3Plus, "3d"),
    (nnUNetTrainerUNet3PlusCGM, "2d"),
    (nnUNetTrainerUNetPlusPlus, "2d"),
    (nnUNetTrainerUNetSharpCGM, "2.5d"),
    (nnUNetTrainerVNet3Plus, "2d"),
]


def outputs_and_gradients(network, x):
    torch.manual_seed(0)  # the gates' dropout
    outputs = network(x)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    parameters = [p for p in network.parameters() if p.requires_grad]
    return outputs, torch.autograd.grad(sum(o.float().square().mean() for o in outputs), parameters)


def check_close(found, expected):
    """Up to float32 noise, which is that of the largest values: a bias before a norm has nothing but noise."""
    largest = max(each.abs().max().item() for each in expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * largest)


def check_one_graph_each(trainer, make_batch):
    torch._dynamo.reset()
    counters.clear()
    compiled = CompileCounterWithBackend("aot_eager")
    # in the compiled one's memory format: dropout draws in the order of memory
    eager, x = as_compiled(deepcopy(trainer.network)), make_batch(trainer)["data"]
    trainer.network = torch.compile(trainer.network, backend=compiled)
    trainer.lr_scheduler.step(0)

    trainer.network.train()
    for found, expected in zip(outputs_and_gradients(trainer.network, x), outputs_and_gradients(eager, x), strict=True):
        check_close(found, expected)
    for seed in (1, 2):
        trainer.train_step(make_batch(trainer, seed))
    assert compiled.frame_count == 1

    trainer.network.eval()
    eager.load_state_dict(trainer.bare_network().state_dict())
    with torch.no_grad():
        found, expected = trainer.network(x), eager.eval()(x)
        check_close(*([o] if isinstance(o, torch.Tensor) else o for o in (found, expected)))
        for seed in (1, 2):
            trainer.validation_step(make_batch(trainer, seed))
    assert compiled.frame_count == 2

    trainer.network.train()
    trainer.train_step(make_batch(trainer))
    assert compiled.frame_count == 2
    assert not counters["graph_break"]


@pytest.mark.parametrize(("trainer_class", "plan"), FAMILIES)
def test_one_graph_to_train_and_one_to_validate(trainer_class, plan, make_trainer, make_batch):
    check_one_graph_each(make_trainer(trainer_class, n_stages=3, **PLANS[plan]), make_batch)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("trainer_class", PLAN_DRIVEN)
def test_every_trainer(trainer_class, plan, make_trainer, make_batch):
    n_stages = 3 if has_enough_stages({"n_stages": 3}, trainer_class) else 4
    check_one_graph_each(make_trainer(trainer_class, n_stages=n_stages, **PLANS[plan]), make_batch)


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", WITH_STAGES_OF_THEIR_OWN)
def test_networks_with_stages_of_their_own(trainer_class, make_trainer, make_batch):
    check_one_graph_each(make_trainer(trainer_class, n_stages=3, patch_size=[64, 64]), make_batch)


@pytest.mark.slow
def test_network_with_stages_of_its_own_on_stacked_slices(make_trainer, make_batch):
    trainer = make_trainer(nnUNetTrainerUNet3PlusPaper, n_stages=3, patch_size=[32, 32], stacked={"depth": 2})
    check_one_graph_each(trainer, make_batch)


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUNet3PlusCGM, nnUNetTrainerUNetSharpCGM])
def test_gate_decides_between_graphs(trainer_class, make_trainer):
    """Without deep supervision, as nnU-Net predicts: however many patches are skipped, nothing is compiled anew."""
    torch._dynamo.reset()
    trainer = make_trainer(trainer_class, n_stages=3, patch_size=[16, 16])
    trainer.set_deep_supervision_enabled(False)
    network = trainer.network.eval()
    patches = [torch.randn(1, 1, 16, 16) * spread for spread in (0.1, 1, 10, 30)]
    with torch.no_grad():
        presence = torch.stack([network.presence_logits(x)[:, 0] for x in patches]).softmax(-1)[..., 1]
        network.gatings[0].thresholds.copy_(presence.amax(2).median())
        compiled = CompileCounterWithBackend("eager")
        predict = torch.compile(network, backend=compiled)
        graphs = []
        for x in 3 * patches:
            torch.testing.assert_close(predict(x), network(x))
            graphs.append(compiled.frame_count)
    assert 0 < network.gatings[0].count.skipped < network.gatings[0].count.seen
    assert graphs[-1] == graphs[len(patches) - 1] <= 5  # before the gate, its answer, background, decoder, gating
