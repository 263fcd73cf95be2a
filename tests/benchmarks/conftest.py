import json

import pytest


@pytest.fixture
def rows(tmp_path):
    """Runs a benchmark's main with one thread and one round, and reads back the rows it writes."""

    def run(main, *options):
        file = tmp_path / "rows.json"
        assert main([*options, "--threads", "1", "--runs", "1", "--json", str(file)]) == 0
        return json.loads(file.read_text())["rows"]

    return run


@pytest.fixture
def refusal(capsys):
    """Runs a benchmark's main with what it must refuse; the line it says."""

    def run(main, *options):
        assert main([*options, "--threads", "1"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        return line

    return run
