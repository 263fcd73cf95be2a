import pytest

from tests.end_to_end.nnunet import Workspace
from tests.slurm import slurm_cluster  # noqa: F401 - a fixture


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("nnunet"))
