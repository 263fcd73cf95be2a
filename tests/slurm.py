"""A real SLURM on this machine: one node on loopback, in a folder of its own, gone when its user is done with it.

`slurm_cluster` is its pytest fixture: import it into the `conftest.py` of the tests that use it.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_DAEMONS = ("munged", "slurmctld", "slurmd")
_START = 60  # seconds
_CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=300
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm_cluster():
    """The cluster's `SLURM_CONF`, set for this process while the fixture lives."""
    missing = [name for name in (*_DAEMONS, "sbatch", "setpriv") if _find(name) is None]
    if missing:
        pytest.skip(f"no SLURM here: {', '.join(missing)} not found (Debian packages slurm-wlm and munge)")
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM")
    with slurm() as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        yield configuration


@contextmanager
def slurm():
    """Starts the three daemons, waits for the node to be idle and gives the path of `slurm.conf`."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not pytest's: a socket's path may have 107 characters
    try:
        configuration = _configure(folder)
        with ExitStack() as daemons:
            daemons.enter_context(_munge(folder))
            env = os.environ | {"SLURM_CONF": str(configuration)}
            for name in ("slurmctld", "slurmd"):
                daemons.enter_context(_daemon(folder, name, "-D", "-f", configuration, env=env))
            _wait_for(lambda: _output("sinfo", "-h", "-o", "%T", env=env) == "idle", folder, "the node is not idle")
            yield configuration
            subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], env=env, check=False)
            subprocess.run(["scancel", "--user=root"], env=env, check=False)
            _wait_for(lambda: _output("squeue", "-h", env=env) == "", folder, "jobs do not end")
    finally:
        shutil.rmtree(folder)


def _configure(folder):
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    with socket.socket() as one, socket.socket() as other:  # two free ports: several clusters may run side by side
        ports = []
        for s in (one, other):
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            controller_port=ports[0],
            node_port=ports[1],
            memory=memory - 100,
        )
    )
    return configuration


@contextmanager
def _munge(folder):
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
    options = [f"--{option}={folder / file}" for option, file in files.items()]
    with _daemon(folder, "munged", "--foreground", "--force", f"--key-file={key}", *options):
        _wait_for((folder / "munge.socket").exists, folder, "munged does not answer")
        yield


@contextmanager
def _daemon(folder, name, *arguments, env=None):
    """One daemon in the foreground, ended by its own process id, or by the kernel if this process is killed."""
    command = ["setpriv", "--pdeathsig", "TERM", _find(name), *map(str, arguments)]
    with (folder / f"{name}.out").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _find(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _output(*command, env):
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout.strip()


def _wait_for(condition, folder, complaint):
    end = time.monotonic() + _START
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{file.name}:\n{file.read_text()[-2000:]}" for file in folder.glob("*.out"))
            raise RuntimeError(f"SLURM is installed, but {complaint}\n{logs}")
        time.sleep(0.2)
