import pytest

from nnunetv2_unet3plus.benchmarking.report.write import write_report
from tests.benchmarking.report import synthetic


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory):
    """A benchmark with everything in it, of four models on LiTS, and its report's folder."""
    folder = tmp_path_factory.mktemp("ordinary")
    made = synthetic.with_files(synthetic.benchmark(models=4, cases=9), folder / "files")
    write_report(made, folder / "report")
    return made, folder / "report"
