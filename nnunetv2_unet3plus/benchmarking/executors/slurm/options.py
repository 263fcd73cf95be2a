"""`--slurm KEY=VALUE`: what a cluster wants to know about a job."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.errors import UserError

_OURS = {"name", "job_name", "nodes", "tasks_per_node", "ntasks_per_node", "stderr_to_stdout", "use_srun", "srun_args"}
_LISTS = {"setup", "teardown"}
_FORMS = {
    "cpus_per_task": (r"[1-9]\d*", "a whole number, such as 8"),
    "mem_gb": (r"\d+(\.\d+)?", "a number, such as 32"),
    "time": (r"\d+(-\d+)?(:\d+){0,2}", "minutes, such as 720, or days-hours, such as 2-12"),
    "timeout_min": (r"[1-9]\d*", "minutes, such as 720"),
    "additional_parameters": (r"\{.*\}", 'sbatch\'s own options as JSON, such as {"reservation": "night"}'),
}


def parameters_of(options: Mapping[str, str]) -> dict[str, Any]:
    """What submitit's `SlurmExecutor.update_parameters` takes.

    Args:
        options: the names of submitit's `AutoExecutor`, with or without `slurm_` in front, and their values as text.

    Raises:
        UserError: If a key is unknown or its value of the wrong kind; the line names the key.
    """
    return dict(_parameter(key, text) for key, text in options.items())


def _parameter(key: str, text: str) -> tuple[str, Any]:
    option, name = f"--slurm {key}={text}", key.removeprefix("slurm_")
    if name in _OURS:
        raise UserError(f"{option}: every job is one process on one node, named by the benchmark; leave {key} out")
    form, meaning = _FORMS.get(name, (".+", "given"))
    value = _value(text)
    if not re.fullmatch(form, text) or (name == "additional_parameters" and not isinstance(value, dict)):
        raise UserError(f"{option}: {key} must be {meaning}")
    if name == "mem_gb":
        return "mem", f"{round(float(text) * 1024)}M"
    if name == "timeout_min":
        return "time", value
    if name in _LISTS:
        value = [text]
    if not _known_to_submitit(name, value):
        other = json.dumps({name.replace("_", "-"): text})
        raise UserError(f"{option}: {key} is unknown; if it is an option of sbatch's: additional_parameters='{other}'")
    return name, value


def _value(text: str) -> Any:
    """Numbers, true and {...} as JSON has them; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _known_to_submitit(name: str, value: Any) -> bool:
    import submitit

    try:
        submitit.SlurmExecutor(Path()).update_parameters(**{name: value})
    except ValueError:
        return False
    return True
