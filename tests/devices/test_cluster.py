"""Several processes as one program: the same steps on every mesh, the address, and the message if one is missing."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import processes
from tests.conftest import ROOT, SMALL, environment_of_a_user, refusal

pytestmark = pytest.mark.faults

SCRIPT = """
import sys
from alexnet_jax.devices import cluster, launchers
from alexnet_jax.messages import UserError
cluster.JOIN_SECONDS = 3 if int(sys.argv[3]) == 2 else 10
try:
    cluster.join(launchers.of_flags(sys.argv[1], int(sys.argv[3]), int(sys.argv[2])))
except UserError as error:
    sys.exit(str(error))
"""


def steps(path: Path, size: str, data: int, model: int, count: int) -> dict[str, np.ndarray]:
    """The losses and parameters of ten steps on a mesh over `count` processes."""
    module = [sys.executable, "-m", "tests.devices.steps_of_processes", str(path), size, str(data), str(model)]
    if count == 1:
        environment = {**environment_of_a_user(), "JAX_NUM_CPU_DEVICES": str(data * model)}
        started = [subprocess.Popen(module, cwd=ROOT, env=environment)]
    else:
        joined = [f"127.0.0.1:{processes.free_port()}", str(count)]
        started = [
            subprocess.Popen([*module, *joined, str(process)], cwd=ROOT, env=environment_of_a_user())
            for process in range(count)
        ]
    assert [one.wait(600) for one in started] == [0] * count
    with np.load(path) as arrays:
        return dict(arrays)


def require_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float) -> None:
    assert len(set(theirs["losses"].tolist())) == 10
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=tolerance)
    assert ours["sizes"][0] == ours["sizes"][1] > 0  # bytes that cross, as predicted


@pytest.mark.parametrize(
    ("data", "model", "rows"),
    [(1, 2, 8), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((2, 1, 4), (2, 2, 4)))],
)
def test_a_narrow_network_in_float64_is_the_same_over_processes(
    data: int, model: int, rows: int, tmp_path: Path
) -> None:
    alone = steps(tmp_path / "alone.npz", "narrow", 1, 1, 1)
    together = steps(tmp_path / "together.npz", "narrow", data, model, data * model)
    require_same(together, alone, 1e-9)
    assert together["sizes"][2] == rows  # of eight; two processes with the towers of a pair hold the same rows
    for name in alone.keys() - {"losses", "sizes"}:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "model"), [(1, 2), (2, 2)])
def test_the_full_network_is_the_same_over_processes(data: int, model: int, tmp_path: Path) -> None:
    # On the same mesh: another mesh adds in another order, which makes 1.5e-4 after ten steps with this batch.
    alone = steps(tmp_path / "alone.npz", "full", data, model, 1)
    require_same(steps(tmp_path / "together.npz", "full", data, model, data * model), alone, 1e-4)


def joining(address: str, process: int, count: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, address, str(process), str(count)],
        cwd=ROOT,
        env=environment_of_a_user(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_coordinator_that_does_not_answer_is_named_in_time() -> None:
    address = f"127.0.0.1:{processes.free_port()}"
    out, err = (one := joining(address, 1)).communicate(timeout=60)
    assert (one.returncode, out) == (1, "")
    assert err.startswith(f"process 0, the coordinator, does not answer at {address} within 3 s (Connection refused)")


def test_a_process_that_does_not_come_is_missed_in_time_and_no_library_says_it() -> None:
    address = f"127.0.0.1:{processes.free_port()}"
    _, err = (one := joining(address, 0)).communicate(timeout=120)
    assert one.returncode == 1
    assert err.splitlines()[-1].startswith(f"error: not all 2 processes have joined at {address} within 3 s")
    assert "@ 0x" not in err and "Check failure" not in err


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        _, err = joining(address, 0).communicate(timeout=60)
    assert err.startswith(
        f"process 0 cannot listen at {address} (Address already in use); another process listens there"
    )


def test_the_coordinator_listens_where_it_is_named_and_nowhere_else() -> None:
    port = processes.free_port()
    one = joining(f"127.0.0.1:{port}", 0)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (found := processes.listeners(one.pid)):
            time.sleep(0.05)
        assert found <= {f"0100007F:{port:04X}", f"0000000000000000FFFF00000100007F:{port:04X}"}  # 127.0.0.1 alone
    finally:
        one.kill()
        one.communicate()


def test_two_processes_with_the_same_number_are_told() -> None:
    address = f"127.0.0.1:{processes.free_port()}"
    started = [joining(address, number, 3) for number in (0, 1, 1)]
    said = [one.communicate(timeout=120)[1] for one in started]
    assert [one.returncode for one in started] == [1] * 3
    assert any("two processes have joined as --process=1; give each its own number" in one for one in said), said
    assert "@ 0x" not in "".join(said)


def test_of_other_modes_many_processes_are_refused() -> None:
    done = processes.run(2, *SMALL, "--mode=describe")
    for one in done:
        assert "--coordinator belongs to --mode=train or prepare or evaluate" in refusal(one)
