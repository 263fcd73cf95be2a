"""nnU-Net's train_step in two gloo processes on the CPU."""

import os
import socket

from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel


def gradient_sizes(network):
    """Sum of absolute values of every gradient; None where a trainable parameter has none."""
    return {
        name: None if p.grad is None else p.grad.abs().sum().item()
        for name, p in network.named_parameters()
        if p.requires_grad
    }


def train_in_two_processes(trainer, batches):
    """Two steps of each process; what `gradient_sizes` says in both."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_train, args=(rank, trainer, batches[rank], port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    gradients = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return gradients[0], gradients[1]


def _train(rank, trainer, batch, port, queue):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    trainer.network = DistributedDataParallel(trainer.network)
    trainer.is_ddp = True
    trainer.network.train()
    for _ in range(2):  # DDP notices in the second step that a parameter was not used in the first
        trainer.train_step(batch)
    queue.put((rank, gradient_sizes(trainer.network.module)))
    distributed.barrier()
    distributed.destroy_process_group()
