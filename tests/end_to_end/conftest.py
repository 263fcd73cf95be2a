import pytest

from tests.end_to_end.nnunet import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("nnunet"))
