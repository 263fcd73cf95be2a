"""Jobs on a SLURM cluster: `SlurmExecutor` follows each by a `watch`, which leaves a `record` on disk."""

from nnunetv2_unet3plus.benchmarking.executors.slurm.executor import SlurmExecutor

__all__ = ["SlurmExecutor"]
