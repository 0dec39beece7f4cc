"""This process's place in a cluster: from the command line's flags, or from the launcher's environment variables.

Slurm, Open MPI, a Cloud TPU pod and Kubernetes tell each process that they start its place; JAX knows where to look.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from alexnet_jax.messages import UserError, say

JOIN_SECONDS = 300  # in which all processes must have come; hosts of a cluster start minutes apart
LAUNCHERS = ("SLURM_JOB_ID", "OMPI_COMM_WORLD_SIZE", "KUBERNETES_SERVICE_HOST")  # their variables; TPUs have libtpu


@dataclass(frozen=True)
class Place:
    """A process's place in a cluster."""

    process: int  # its number, from 0
    processes: int  # how many there are
    coordinator: str  # HOST:PORT of process 0
    devices: tuple[int, ...] | None = None  # the numbers of the process's GPUs; None: all visible devices


def of_flags(coordinator: str | None, processes: int | None, process: int | None) -> Place | None:
    """The place that the flags name, or None for a single process. Raises UserError if a flag is missing or wrong."""
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [flag for flag, value in given.items() if value is None]
    if coordinator is None or processes is None or process is None:
        if len(missing) < len(given):
            raise UserError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: --coordinator=HOST:PORT, "
                "--processes=N and --process=I go together; give all three, or none of them"
            )
        return None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator is '{coordinator}' and must be HOST:PORT, of process 0, such as 10.0.0.1:8476")
    if processes < 1 or not 0 <= process < processes:
        raise UserError(
            f"--process is {process} and --processes {processes}; number the processes from 0 to one less than "
            "--processes"
        )
    return Place(process, processes, coordinator) if processes > 1 else None


def found(environment: Mapping[str, str]) -> Place | None:
    """The place that a cluster's launcher has given this process, or None for a single process.

    A shell inside an allocation has some of a launcher's variables: it is a single process, and a message says so.
    """
    if not any(name in environment for name in LAUNCHERS) and find_spec("libtpu") is None:
        return None
    # JAX's own finders know what each launcher sets; nothing public calls them before joining.
    from jax._src import clusters

    if "SLURM_JOB_ID" in environment:
        return _of_slurm(environment, clusters.SlurmCluster)
    if "OMPI_COMM_WORLD_SIZE" in environment:
        if clusters.OmpiCluster.is_env_present():
            local = int(environment.get("OMPI_COMM_WORLD_LOCAL_RANK", 0))
            beside = int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1))
            return _asked(clusters.OmpiCluster, devices_of(environment, local, beside))
        _say_alone("Open MPI's", "Open MPI does not say where the first process is")
        return None
    if "KUBERNETES_SERVICE_HOST" in environment:
        if "JOB_COMPLETION_INDEX" not in environment:
            _say_alone("Kubernetes'", "its job has no completionMode: Indexed")
            return None
        if find_spec("kubernetes") is None:
            _say_alone("Kubernetes'", "the package 'kubernetes', by which JAX finds the others, is not installed")
            return None
        return _asked(clusters.K8sCluster, None)
    for tpu in (clusters.GkeTpuCluster, clusters.GceTpuCluster):
        if tpu.is_env_present():
            return _asked(tpu, None)
    return None


def _of_slurm(environment: Mapping[str, str], finder: Any) -> Place | None:
    step = ("SLURM_STEP_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
    missing = [name for name in step if not environment.get(name)]
    job = environment["SLURM_JOB_ID"]
    if missing:
        several = environment.get("SLURM_NTASKS", environment.get("SLURM_NPROCS", "1")) != "1"
        reason = f"{missing[0]} is not set: the process is in a shell of job {job}, and is not a task that srun started"
        if several:
            _say_alone("Slurm's", reason)
        return None
    if not environment["SLURM_STEP_ID"].isdigit() or int(environment["SLURM_STEP_ID"]) >= 0xFFFFFFF0:
        _say_alone(
            "Slurm's", f"the process is in the interactive shell of job {job}, and is not a task that srun started"
        )
        return None
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    if tasks == 1:
        return None
    port = environment.get("JAX_COORDINATOR_PORT") or str(
        61440 + (int(job) + 64 * int(environment["SLURM_STEP_ID"])) % 4096
    )
    local = int(environment["SLURM_LOCALID"])
    beside = _tasks_on_this_node(environment)
    address = finder.get_coordinator_address(timeout_secs=JOIN_SECONDS, override_coordinator_port=port)
    return Place(int(environment["SLURM_PROCID"]), tasks, address, devices_of(environment, local, beside))


def _tasks_on_this_node(environment: Mapping[str, str]) -> int:
    """Reads Slurm's form 4(x2),3: four tasks on each of the first two nodes, three on the third."""
    node = int(environment.get("SLURM_NODEID", 0))
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "1").split(","):
        if match := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part):
            node -= int(match[2] or 1)
            if node < 0:
                return int(match[1])
    return 1


def devices_of(environment: Mapping[str, str], local: int, beside: int) -> tuple[int, ...] | None:
    """This process's GPUs among those in CUDA_VISIBLE_DEVICES, numbered from 0; None: all visible devices.

    Some launchers show each task only its own GPUs. Where all tasks of a host see all GPUs, each task takes its share.

    Args:
      local: this process's number on its host.
      beside: the number of processes on the host.
    """
    shown = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    own = any(environment.get(name) for name in ("SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK", "SLURM_GPU_BIND"))
    if not shown or beside == 1 or own or len(shown) % beside:
        return tuple(range(len(shown))) or None
    share = len(shown) // beside
    return tuple(range(local * share, (local + 1) * share))


def _asked(finder: Any, devices: tuple[int, ...] | None) -> Place | None:
    processes = finder.get_process_count()
    if processes == 1:
        return None
    port = os.environ.get("JAX_COORDINATOR_PORT")
    address = finder.get_coordinator_address(timeout_secs=JOIN_SECONDS, override_coordinator_port=port)
    return Place(finder.get_process_id(), processes, address, devices)


def _say_alone(whose: str, reason: str) -> None:
    say(
        f"this process starts alone, though it is in one of {whose} jobs ({reason}); to join other processes, start "
        "it with the launcher, or with --coordinator, --processes and --process"
    )
