import json

import pytest
import torch

from benchmarks.frame import Parser, cpu_model, run

ROWS = [{"what": "one", "ratio": 0.5, "count": 3}, {"what": "two", "ratio": 1234.5, "count": 4}]


def measure(args, report):
    for row in ROWS:
        report.add(**row)


def exhaust(args, report):
    torch.empty(2**60)


def fail(args, report):
    raise RuntimeError("a bug")


def one_line(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_rows_are_printed_as_a_table_and_written_with_what_they_were_measured_with(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert run(Parser("text"), measure, ["--threads", "1", "--json", str(file)]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["what", "ratio", "count"]
    assert (first.split(), second.split()) == (["one", "0.50", "3"], ["two", "1234", "4"])
    content = json.loads(file.read_text())
    assert content["rows"] == ROWS
    assert content["command"] == f"python -m benchmarks.test_frame --threads 1 --json {file}"
    assert (content["threads"], content["runs"], content["torch"]) == (1, 3, torch.__version__)
    assert content["device"] == content["cpu"] == cpu_model()


def test_threads_are_set_for_the_benchmark_alone():
    before, seen = torch.get_num_threads(), []

    def look(args, report):
        seen.append(torch.get_num_threads())

    run(Parser("text"), look, ["--threads", str(before + 1)])
    assert (*seen, torch.get_num_threads()) == (before + 1, before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cuda"], "--device cuda"),
        (["--device", "tpu"], "--device"),
        (["--threads", "0"], "--threads"),
        (["--runs", "none"], "--runs"),
        (["--json", "no such folder/rows.json"], "--json no such folder/rows.json"),
        (["--json", "."], "--json ."),
        (["--unknown"], "--unknown"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option(options, said, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(Parser("text"), measure, options) == 2
    assert said in one_line(capsys)


def test_memory_at_its_end_is_one_line_and_nothing_is_written(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert run(Parser("text"), exhaust, ["--json", str(file)]) == 2
    assert "out of memory" in one_line(capsys)
    assert not file.exists()


def test_other_errors_are_not_hidden():
    with pytest.raises(RuntimeError, match="a bug"):
        run(Parser("text"), fail, [])
