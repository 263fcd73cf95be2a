"""With a stand-in for NVML: no test may need a GPU."""

import sys
from types import ModuleType

import pytest

from nnunetv2_unet3plus.benchmarking.costs.energy import GpuEnergy


class NVMLError(Exception):
    pass


class FakeNVML(ModuleType):
    """GPUs 0, 1, ... whose counters begin at 1000 mJ times the index; `use` adds to them."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, names=("A100", "A100"), uuids=("GPU-aaa1-0000", "GPU-aab2-0000"), divided=None, fails=()):
        super().__init__("pynvml")
        self.names, self.uuids, self.divided, self.fails = names, uuids, divided, fails
        self.counters = [1000 * index for index in range(len(names))]
        self.loaded = 0

    def _may_fail(self, name):
        if name in self.fails:
            raise NVMLError(f"{name} failed")

    def nvmlInit(self):  # noqa: N802
        self._may_fail("init")
        self.loaded += 1

    def nvmlShutdown(self):  # noqa: N802
        self.loaded -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        self._may_fail("count")
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, gpu):  # noqa: N802
        return self.uuids[gpu]

    def nvmlDeviceGetName(self, gpu):  # noqa: N802
        return self.names[gpu]

    def nvmlDeviceGetMigMode(self, gpu):  # noqa: N802
        if self.divided is None:
            raise NVMLError("Not Supported")
        return int(gpu in self.divided), 0

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):  # noqa: N802
        self._may_fail("energy")
        return self.counters[gpu]


@pytest.fixture
def nvml(monkeypatch):
    def make(**options):
        fake = FakeNVML(**options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return make


def measured(fake, environment, used=(7200, 36000)):
    """Watt-hours and problem when GPU 0 and GPU 1 take so many joules."""
    with GpuEnergy(environment) as energy:
        assert energy.watt_hours is None
        for gpu in range(len(fake.counters)):
            fake.counters[gpu] += 1000 * used[gpu]
    assert fake.loaded == 0
    return energy.watt_hours, energy.problem


@pytest.mark.parametrize(
    ("environment", "watt_hours"),
    [
        ({}, 2),
        ({"CUDA_VISIBLE_DEVICES": "0"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 10),
        ({"CUDA_VISIBLE_DEVICES": " 1, 0"}, 10),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aab2-0000"}, 10),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aab"}, 10),
    ],
)
def test_of_the_gpu_the_process_uses(environment, watt_hours, nvml):
    assert measured(nvml(), environment) == (pytest.approx(watt_hours), None)


def test_environment_of_this_process(nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert measured(nvml(), None) == (pytest.approx(10), None)


def test_older_packages_return_bytes(nvml):
    fake = nvml(names=(b"A100", b"A100"), uuids=(b"GPU-aaa1", b"GPU-aab2"))
    assert measured(fake, {"CUDA_VISIBLE_DEVICES": "GPU-aab2"}) == (pytest.approx(10), None)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES= is none of 2 GPUs"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "none of 2 GPUs"),
        ({"CUDA_VISIBLE_DEVICES": "2"}, "none of 2 GPUs"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aa"}, "none of 2 GPUs"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-41b3"}, "MIG"),
    ],
)
def test_no_gpu_or_a_part_of_one(environment, problem, nvml):
    watt_hours, told = measured(nvml(), environment)
    assert watt_hours is None
    assert told.startswith("energy unknown: ")
    assert problem in told


def test_divided_gpu(nvml):
    assert measured(nvml(divided={1}), {"CUDA_VISIBLE_DEVICES": "0"})[0] == pytest.approx(2)
    watt_hours, problem = measured(nvml(divided={1}), {"CUDA_VISIBLE_DEVICES": "1"})
    assert watt_hours is None
    assert "MIG" in problem


def test_gpus_of_several_kinds(nvml):
    kinds = {"names": ("T400", "A100")}
    watt_hours, problem = measured(nvml(**kinds), {"CUDA_VISIBLE_DEVICES": "1"})
    assert watt_hours is None
    assert "set CUDA_DEVICE_ORDER=PCI_BUS_ID" in problem
    by_slot = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert measured(nvml(**kinds), by_slot) == (pytest.approx(10), None)
    assert measured(nvml(**kinds), {"CUDA_VISIBLE_DEVICES": "GPU-aab2"}) == (pytest.approx(10), None)


@pytest.mark.parametrize("fails", ["init", "count", "energy"])
def test_where_nvml_does_not_work(fails, nvml):
    assert measured(nvml(fails=(fails,)), {}) == (None, f"energy unknown: {fails} failed")


def test_counter_that_fails_or_restarts_meanwhile(nvml):
    fake = nvml()
    with GpuEnergy({}) as energy:
        fake.fails = ("energy",)
    assert (energy.watt_hours, energy.problem, fake.loaded) == (None, "energy unknown: energy failed", 0)
    fake = nvml()
    fake.counters[0] = 500
    with GpuEnergy({}) as energy:
        fake.counters[0] = 0
    assert energy.watt_hours is None
    assert "loaded anew" in energy.problem


def test_what_was_taken_until_an_exception_counts(nvml):
    fake, energy = nvml(), GpuEnergy({})

    def train():
        with energy:
            fake.counters[0] += 3_600_000
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert energy.watt_hours == pytest.approx(1)
    assert fake.loaded == 0


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # makes its import fail
    with GpuEnergy({}) as energy:
        pass
    assert (energy.watt_hours, energy.problem) == (None, "energy unknown: pip install nvidia-ml-py")


def test_the_real_package_has_what_the_stand_in_has():
    pynvml = pytest.importorskip("pynvml")
    missing = [name for name in vars(FakeNVML) if name.startswith(("nvml", "NVML")) and not hasattr(pynvml, name)]
    assert missing == []
    assert issubclass(pynvml.NVMLError, Exception)
