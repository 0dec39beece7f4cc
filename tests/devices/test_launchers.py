"""A process's place from the flags, or from the variables of Slurm, Open MPI and Kubernetes; and half of these."""

import os

import pytest

from alexnet_jax.devices import launchers
from alexnet_jax.devices.launchers import Place
from alexnet_jax.messages import UserError

TASK = {  # as srun sets them for the third of four tasks on two nodes
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "node[08-09]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_NTASKS": "4",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def found_by(environment: dict[str, str]) -> Place | None:
    """JAX's finders read the process's own environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return launchers.found(os.environ)


def test_a_task_of_slurm_knows_its_place_and_the_first_node() -> None:
    assert found_by(TASK) == Place(2, 4, f"node08:{61440 + 7}")


def test_two_steps_of_a_job_meet_at_two_ports_and_the_port_can_be_named() -> None:
    first, second = found_by(TASK), found_by({**TASK, "SLURM_STEP_ID": "1"})
    assert first and second and first.coordinator != second.coordinator
    named = found_by({**TASK, "JAX_COORDINATOR_PORT": "1234"})
    assert named and named.coordinator == "node08:1234"


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "a"}, id="salloc's shell"),
        pytest.param({**TASK, "SLURM_STEP_ID": "4294967290"}, id="salloc's interactive step"),
        pytest.param({name: TASK[name] for name in TASK if name != "SLURM_PROCID"}, id="half of the variables"),
        pytest.param({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, id="Open MPI without an address"),
        pytest.param({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, id="a pod that is not indexed"),
    ],
)
def test_a_shell_inside_an_allocation_starts_alone_and_says_so(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert launchers.found(environment) is None
    assert "starts alone" in capsys.readouterr().err


@pytest.mark.parametrize("environment", [{}, {**TASK, "SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_JOB_ID": "7"}])
def test_where_there_is_one_task_nothing_is_said(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert launchers.found(environment) is None
    assert capsys.readouterr().err == ""


def test_open_mpi_says_where_the_first_process_is() -> None:
    environment = {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    }
    found = found_by(environment)
    assert found and (found.process, found.processes) == (1, 2)
    assert found.coordinator.startswith("10.96.0.1:")


@pytest.mark.parametrize(
    ("environment", "local", "beside", "expected"),
    [
        pytest.param({"CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_PER_TASK": "1"}, 3, 4, (0,), id="its own, numbered 0"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 0, 1, (0, 1, 2, 3), id="all of a node in one task"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 2, 4, (2,), id="all shown to each of four tasks"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, 1, 2, (2, 3), id="numbers are of those that are shown"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "2"}, 1, 2, (0,), id="one shown to each, by another means"),
        pytest.param({}, 1, 2, None, id="no GPU"),
    ],
)
def test_which_of_a_hosts_gpus_are_a_tasks(
    environment: dict[str, str], local: int, beside: int, expected: tuple[int, ...] | None
) -> None:
    assert launchers.devices_of(environment, local, beside) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("10.0.0.1:80", None, None), "--processes and --process are missing"),
        ((None, None, 0), "--coordinator and --processes are missing"),
        (("10.0.0.1", 2, 0), "--coordinator is '10.0.0.1' and must be HOST:PORT"),
        (("10.0.0.1:80", 2, 2), "--process is 2 and --processes 2"),
    ],
)
def test_flags_go_together_and_are_right(given: tuple[str | None, int | None, int | None], words: str) -> None:
    with pytest.raises(UserError, match="^" + words.replace(".", r"\.")):
        launchers.of_flags(*given)


def test_flags_say_the_place() -> None:
    assert launchers.of_flags("[::1]:80", 2, 1) == Place(1, 2, "[::1]:80")
    assert launchers.of_flags(None, None, None) is None
    assert launchers.of_flags("a:80", 1, 0) is None  # a single process needs no cluster
