"""The whole demo, as `make demo` runs it."""

import pytest

from nnunetv2_unet3plus.demo.pipeline import PHANTOMS_TO_TEST, Demo
from nnunetv2_unet3plus.demo.run import TRAINER


@pytest.mark.slow
def test_demo(tmp_path, capfd):
    results = Demo.prepare(tmp_path / "demo").run(TRAINER, "cpu")
    assert len(results.dice) == PHANTOMS_TO_TEST
    assert results.mean >= 0.85
    output = capfd.readouterr().out
    assert "$ nnUNetv2_train 501 2d 0" in output
    assert results.table() in output
    assert f"as nnU-Net counts it: {results.mean:.4f}" in output
    for name in results.dice:
        picture = tmp_path / "demo" / "pictures" / f"{name}.png"
        assert str(picture) in output
        assert picture.stat().st_size > 0
