import pytest

from tests.benchmarking.folders import Folders


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """nnU-Net's three folders, set."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return Folders(tmp_path)
