from tests.slurm import slurm_cluster  # noqa: F401
