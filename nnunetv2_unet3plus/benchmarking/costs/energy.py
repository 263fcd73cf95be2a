"""The energy a GPU takes while something runs on it, by the driver's own counter (NVML)."""

import os
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

MILLIJOULES_PER_WATT_HOUR = 3_600_000


class GpuEnergy:
    """Reads the counter of the GPU that a process uses, before and after.

        with GpuEnergy() as energy:
            train()
        print(energy.watt_hours)

    The counter is the whole GPU's: where others use it as well, what they take is counted too. The process is one of
    nnU-Net's on one GPU, the first that it sees.

    Attributes:
        watt_hours: None where it is not known, and before the end.
        problem: one line, why it is None.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Nothing is read yet.

        Args:
            environment: the process's variables, of which CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER count; this
                process's if left out.
        """
        self.watt_hours: float | None = None
        self.problem: str | None = None
        self._environment = os.environ if environment is None else environment
        self._nvml: ModuleType | None = None
        self._handle: Any = None
        self._start = 0

    def __enter__(self) -> "GpuEnergy":
        """Start to count; the driver is kept loaded, which would forget its count otherwise."""
        try:
            import pynvml
        except ImportError:
            self.problem = "energy unknown: pip install nvidia-ml-py"
            return self
        try:
            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handle = _gpu(pynvml, self._environment)
            self._start = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except (pynvml.NVMLError, LookupError) as error:
            self._handle = None
            self.problem = f"energy unknown: {error}"
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop to count; what was taken until an exception counts too."""
        if self._nvml is None:
            return
        try:
            if self._handle is not None:
                taken = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) - self._start
                if taken < 0:
                    self.problem = "energy unknown: the driver was loaded anew meanwhile"
                else:
                    self.watt_hours = taken / MILLIJOULES_PER_WATT_HOUR
        except self._nvml.NVMLError as error:
            self.problem = f"energy unknown: {error}"
        finally:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None


def _gpu(nvml: ModuleType, environment: Mapping[str, str]) -> Any:
    """NVML's handle of the first GPU a process sees.

    Raises:
        LookupError: saying why none can be told.
        NVMLError: as NVML does.
    """
    gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith("MIG-"):
        raise LookupError("a part of a GPU (MIG) has no counter of its own")
    if first.startswith("GPU-"):  # may be cut short, as long as it is unique
        chosen = [gpu for gpu in gpus if _text(nvml.nvmlDeviceGetUUID(gpu)).startswith(first)]
    elif first.isdecimal():
        _require_same_order(nvml, gpus, environment)
        chosen = gpus[int(first) : int(first) + 1]
    else:  # empty, -1, NoDevFiles: CUDA is told to see none
        chosen = []
    if len(chosen) != 1:
        raise LookupError(f"CUDA_VISIBLE_DEVICES={first} is none of {len(gpus)} GPUs")
    if _is_divided(nvml, chosen[0]):
        raise LookupError("the GPU is divided (MIG), and its parts have no counters of their own")
    return chosen[0]


def _require_same_order(nvml: ModuleType, gpus: list[Any], environment: Mapping[str, str]) -> None:
    """NVML numbers GPUs by their slot; CUDA puts the fastest first, unless it is told otherwise."""
    by_slot = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not by_slot and len({_text(nvml.nvmlDeviceGetName(gpu)) for gpu in gpus}) > 1:
        raise LookupError("the GPUs are of several kinds; set CUDA_DEVICE_ORDER=PCI_BUS_ID to know which is which")


def _is_divided(nvml: ModuleType, gpu: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(gpu)
    except nvml.NVMLError:  # GPUs that cannot be divided
        return False
    return current == nvml.NVML_DEVICE_MIG_ENABLE


def _text(name: str | bytes) -> str:
    """Older versions of the package return bytes."""
    return name.decode() if isinstance(name, bytes) else name
