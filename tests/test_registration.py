"""Installed from a wheel or in editable mode, nnU-Net's own look-up finds our trainers; uninstalled, nothing is left.

Each installation lives in an environment of its own that knows neither PyTorch nor nnU-Net: the look-up script appends
this environment's site-packages to `sys.path`, by which no `.pth` file in there is run. So what the script finds of our
package is what was installed, not the checkout that these tests run from.
"""

import json
import os
import site
import subprocess
import sys
import sysconfig
import timeit
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PTH = "nnunetv2_unet3plus.pth"
VARIABLE = "nnUNet_extTrainer"

# What nnU-Net ships, what we ship, and a length for either.
TRAINERS = ["nnUNetTrainer_3epochs_2iters", "nnUNetTrainerUNet3Plus", "nnUNetTrainerUNet3Plus_3epochs"]

PRINT_VARIABLE = f"import os; print(os.environ.get({VARIABLE!r}))"

LOOK_UP = """
import json, os, sys
start = {"variable": os.environ.get("nnUNet_extTrainer"), "heavy": [*{"importlib.util", "torch"} & {*sys.modules}]}
sys.path += sys.argv[1].split(os.pathsep)
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
found = {name: recursive_find_trainer_class_by_name(name).__name__ for name in sys.argv[2:]}
import nnunetv2_unet3plus
print(json.dumps({**start, "found": found, "package": nnunetv2_unet3plus.__file__}))
"""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command that sees none of the parent's nnU-Net and Python variables; return its output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("nnUNet_", "PYTHON"))}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean | variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@dataclass
class Environment:
    """A virtual environment with its own Python and an empty site-packages."""

    root: Path

    def __post_init__(self):
        venv.create(self.root, with_pip=False, symlinks=True)
        self.python = self.root / "bin" / "python"
        self.site_packages = next(self.root.glob("lib/python*/site-packages"))
        self.site_packages.joinpath("neighbour.py").touch()  # pip removes directories that it leaves empty

    def pip(self, *arguments: str | Path) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *arguments, cwd=self.root)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--quiet", "--no-deps", "--no-index", wheel)

    def uninstall(self) -> None:
        self.pip("uninstall", "--quiet", "--yes", "nnunetv2-unet3plus")

    def look_up(self, *names: str, cwd: Path, options: list[str] = (), paths: list[str] = (), **variables: str) -> dict:
        """Let nnU-Net look the trainers up, with PyTorch and nnU-Net at the end of the path."""
        path = os.pathsep.join([*paths, sysconfig.get_path("purelib")])
        return json.loads(
            run(self.python, *options, "-c", LOOK_UP, path, *names, cwd=cwd, **variables).splitlines()[-1]
        )

    def files(self) -> set[Path]:
        return set(self.root.rglob("*"))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A directory with the sdist and the wheel built from it."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, CHECKOUT, cwd=target)
    return target


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def editable_wheel(tmp_path_factory) -> Path:
    """What `pip install -e` builds and installs behind the scenes."""
    target = tmp_path_factory.mktemp("editable")
    build = "import sys, hatchling.build; hatchling.build.build_editable(sys.argv[1])"
    run(sys.executable, "-c", build, target, cwd=CHECKOUT)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module", params=["wheel", "editable_wheel"])
def environment(request, tmp_path_factory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp(request.param) / "environment")
    environment.install(request.getfixturevalue(request.param))
    environment.editable = request.param == "editable_wheel"
    return environment


@pytest.fixture
def toy_trainers(tmp_path) -> Path:
    """A user's own directory of trainers."""
    directory = tmp_path / "my trainers"
    directory.mkdir()
    directory.joinpath("my_trainers.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n\n\n"
        "class nnUNetTrainerToy(nnUNetTrainer):\n    pass\n"
    )
    return directory


def plugin_directory(environment: Environment) -> str:
    root = CHECKOUT if environment.editable else environment.site_packages
    return str(root / "nnunetv2_unet3plus" / "nnunet_plugin")


def test_nnunet_finds_the_trainers_with_no_variable_set(environment, tmp_path):
    seen = environment.look_up(*TRAINERS, cwd=tmp_path)
    assert seen["found"] == {name: name for name in TRAINERS}
    assert seen["variable"] == plugin_directory(environment)
    assert Path(seen["package"]).parent == Path(plugin_directory(environment)).parent
    assert seen["heavy"] == []


def test_the_users_own_trainers_keep_working(environment, toy_trainers, tmp_path):
    names = ["nnUNetTrainerToy", "nnUNetTrainerToy_2epochs_3iters", *TRAINERS]
    seen = environment.look_up(*names, cwd=tmp_path, **{VARIABLE: str(toy_trainers)})
    assert seen["found"] == {name: name for name in names}
    assert seen["variable"] == os.pathsep.join([str(toy_trainers), plugin_directory(environment)])


def test_the_directory_is_not_added_twice(environment, tmp_path):
    """A worker process inherits the variable; so does whoever set it by hand to what `unet3plus plugin-path` prints."""
    value = os.pathsep.join([plugin_directory(environment), "/somewhere/else"])
    assert run(environment.python, "-c", PRINT_VARIABLE, cwd=tmp_path, **{VARIABLE: value}) == f"{value}\n"


def test_set_by_hand_it_works_without_the_pth_file(environment, tmp_path):
    """`python -S` runs no .pth file; it then knows no site-packages either, so the script is told."""
    plugin = plugin_directory(environment)
    root = str(Path(plugin).parents[1])
    seen = environment.look_up(*TRAINERS, cwd=tmp_path, options=["-S"], paths=[root], **{VARIABLE: plugin})
    assert seen["found"] == {name: name for name in TRAINERS}


@pytest.mark.parametrize("kind", ["wheel", "editable_wheel"])
def test_uninstalling_leaves_nothing(kind, request, tmp_path):
    environment = Environment(tmp_path / "environment")
    before = environment.files()
    environment.install(request.getfixturevalue(kind))
    assert environment.site_packages / PTH in environment.files() - before
    run(environment.python, "-c", "import nnunetv2_unet3plus", cwd=tmp_path)
    environment.uninstall()
    assert environment.files() == before
    assert run(environment.python, "-c", PRINT_VARIABLE, cwd=tmp_path) == "None\n"
    assert (CHECKOUT / "nnunetv2_unet3plus" / "nnunet_plugin").is_dir()


def test_half_uninstalled_it_stays_silent(wheel, tmp_path):
    """Only the .pth file is left: Python starts without a word on stderr, and nnU-Net is told nothing."""
    environment = Environment(tmp_path / "environment")
    (environment.site_packages / PTH).write_bytes((CHECKOUT / PTH).read_bytes())
    command = [str(environment.python), "-c", PRINT_VARIABLE]
    clean = {k: v for k, v in os.environ.items() if k != VARIABLE}
    result = subprocess.run(command, env=clean, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("None\n", "")


def test_starting_python_costs_less_than_a_millisecond(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    lines = [line for line in (CHECKOUT / PTH).read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert lines[0].startswith("import os, sys; ")  # both are loaded in every Python before any .pth file is read

    def start_up():
        os.environ.pop(VARIABLE, None)
        site.addpackage(str(CHECKOUT), PTH, set())  # what Python does with the file: read, compile, run

    seconds = min(timeit.repeat(start_up, number=20, repeat=20)) / 20
    assert VARIABLE in os.environ  # the measured line did its work
    assert seconds < 1e-3


def test_contents_of_wheel_and_sdist(built, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert PTH in names
    assert "nnunetv2_unet3plus/nnunet_plugin/nnunetv2_unet3plus_trainers.py" in names
    assert "nnunetv2_unet3plus/__init__.py" in names
    assert "nnunetv2_unet3plus/building_blocks/cpu_loops.c" in names
    assert "dataset_conversion/__init__.py" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    top_level = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top_level == {PTH, "nnunetv2_unet3plus", "dataset_conversion"}
    assert next(built.glob("*.tar.gz")).stat().st_size < 5_000_000
