"""launch.py in several processes on this machine, joined over loopback: as many hosts would run it."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import Launched


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(count: int, *arguments: Any, each: dict[int, tuple[Any, ...]] | None = None) -> list[Launched]:
    """The processes of one program, each with one CPU device, unless JAX_NUM_CPU_DEVICES is among the arguments.

    Args:
      each: arguments of one process alone, by its number.
    """
    port = free_port()
    joined = (f"--coordinator=127.0.0.1:{port}", f"--processes={count}")
    return [
        Launched(*arguments, *joined, f"--process={process}", *(each or {}).get(process, ()))
        for process in range(count)
    ]


def ended(launched: list[Launched], timeout: float = 300) -> list[subprocess.CompletedProcess[str]]:
    """Waits for all of them."""
    return [one.ended(timeout) for one in launched]


def run(count: int, *arguments: Any, **kwargs: Any) -> list[subprocess.CompletedProcess[str]]:
    """Starts them and waits for their end."""
    return ended(start(count, *arguments, **kwargs))


def workdir_and_data(workdir: Path, data: Path) -> tuple[str, str]:
    """The flags of a run's folder and of the prepared digits."""
    return f"--workdir={workdir}", f"--config.data.data_dir={data}"


def listeners(pid: int) -> set[str]:
    """The addresses at which a process listens, IPv4 and IPv6, as the kernel writes them."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(fd))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1])
    return found
