"""Many processes as one program: how they join, and what they tell each other apart from arrays.

Each process runs the same command, and JAX's distributed runtime joins them. In a single process every function here
returns at once.
"""

import errno
import hashlib
import itertools
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from alexnet_jax.devices import native_output
from alexnet_jax.devices.launchers import JOIN_SECONDS, Place
from alexnet_jax.devices.liveness import Watch
from alexnet_jax.messages import UserError, leave_it_to_another, say, say_error, say_of_the_end

ANSWER_SECONDS = 600  # in which all processes must come to the same place
PREPARE_SECONDS = 24 * 3600  # in which one process must have prepared the pictures
LOSS_SECONDS = 60  # in which the watch finds out why an exchange between devices failed
RUNTIME_SECONDS = 100  # without a heartbeat, after which JAX's runtime aborts; our watch is earlier and says more
Done = TypeVar("Done")
WORDS_OF_AN_EXCHANGE = ("Gloo", "gloo", "NCCL", "barrier", "oordination", "UNAVAILABLE", "peer")  # in its errors
WORDS_OF_THE_RUNTIME = "JAX distributed service"  # in what JAX's runtime prints when it aborts


class _Here:
    """This process's place in the cluster, once it has joined."""

    place: Place | None = None
    watch: Watch | None = None
    hosts: Sequence[str] = ()  # of all processes
    talks = itertools.count()  # numbers the exchanges of texts, in the same order on all processes
    status: int | None = None  # the exit status, once all processes are done


def index() -> int:
    """This process's number; 0 for a single process."""
    return _Here.place.process if _Here.place else 0


def count() -> int:
    """The number of processes."""
    return _Here.place.processes if _Here.place else 1


def share_of_this_host() -> float:
    """The fraction of the processes that run on this process's host."""
    return list(_Here.hosts).count(_Here.hosts[index()]) / count() if _Here.hosts else 1.0


def join(place: Place) -> None:
    """Joins the other processes; must come before anything that uses a device.

    On CPUs each process has one device, unless JAX_NUM_CPU_DEVICES is set.

    Raises:
      UserError: process 0 cannot listen at the coordinator's address, or does not answer there in time.
    """
    import jax

    if place.process:
        _await_the_coordinator(place)
    else:
        _require_free(place.coordinator)
    _Here.place = place
    native_output.keep_apart(_aborted)
    if place.process:
        leave_it_to_another()
    say(f"process 0 of {place.processes}, at {place.coordinator}: waiting for the others, {JOIN_SECONDS} s at most")
    # JAX's handler of SIGTERM would replace the program's own.
    jax.config.update("jax_enable_preemption_service", False)
    if jax.config.values["jax_num_cpu_devices"] == -1:
        jax.config.update("jax_num_cpu_devices", 1)
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", place.coordinator)
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=list(place.devices) if place.devices else None,
        cluster_detection_method="deactivate",  # launchers.py has asked the launcher
        initialization_timeout=JOIN_SECONDS,
        coordinator_bind_address=bound,
        heartbeat_timeout_seconds=RUNTIME_SECONDS,
        shutdown_timeout_seconds=ANSWER_SECONDS,
    )
    _Here.hosts = gathered("host", socket.gethostname())
    _Here.watch = Watch(_client(), place.process, list(_Here.hosts))
    say(f"{place.processes} processes on {len(set(_Here.hosts))} host{'s' if len(set(_Here.hosts)) > 1 else ''}")


def _client() -> Any:
    """JAX's client for the coordinator's key-value store; it has no public name, and Orbax takes it from here too."""
    from jax._src import distributed

    return distributed.global_state.client


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    return host.strip("[]"), int(port)


def _await_the_coordinator(place: Place) -> None:
    """Raises UserError if nothing answers at the address in time, where JAX's runtime would abort."""
    end, why = time.monotonic() + JOIN_SECONDS, "no answer"
    while time.monotonic() < end:
        try:
            with socket.create_connection(_address(place.coordinator), timeout=5):
                return
        except OSError as error:
            why = error.strerror or str(error)
            time.sleep(0.2)
    raise UserError(
        f"process 0, the coordinator, does not answer at {place.coordinator} within {JOIN_SECONDS} s ({why}); check "
        "that it runs, and that this host can reach that address and port"
    )


def _require_free(coordinator: str) -> None:
    """Raises UserError if this host cannot listen at the address."""
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", coordinator)
    host, port = _address(bound)
    several = os.environ.get("SLURM_STEP_NUM_NODES", "1") != "1"
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if several and str(where[0]).startswith("127."):
            raise UserError(
                f"'{host}' is {where[0]} on its own host (/etc/hosts), which no other host can reach; set "
                f"JAX_COORDINATOR_BIND_ADDRESS=ADDRESS:{port} in the environment"
            )
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(where)
    except OSError as error:
        remedy = (
            "another process listens there, perhaps another process 0: give each process its own --process, or name "
            "another port"
            if error.errno == errno.EADDRINUSE
            else "name an address of the host of process 0"
        )
        raise UserError(f"process 0 cannot listen at {bound} ({error.strerror or error}); {remedy}") from error


def _aborted(printed: str) -> None:
    """Called when JAX's runtime, or another library, aborts this process after it has printed something."""
    place = _Here.place
    assert place is not None
    if _Here.status is not None:  # all is done, and process 0 has ended before this process
        os._exit(_Here.status)
    if WORDS_OF_THE_RUNTIME not in printed:
        say_of_the_end(printed)
        say_error("a library aborted; see its last output above")
    elif _Here.watch is None:
        say_error(_why_not_joined(place, printed))
        os._exit(1)
    else:
        _Here.watch.lost(0)


def _why_not_joined(place: Place, printed: str) -> str:
    if "DEADLINE_EXCEEDED" in printed and place.process == 0:
        return (
            f"not all {place.processes} processes have joined at {place.coordinator} within {JOIN_SECONDS} s; start "
            f"one process with each --process from 0 to {place.processes - 1}, and read the output of each"
        )
    if "incarnation" in printed or "ALREADY_EXISTS" in printed or "ABORTED" in printed:
        return f"two processes have joined as --process={place.process}; give each its own number"
    return (
        f"process {place.process} could not join the others at {place.coordinator}: process 0 has ended, or two "
        "processes have the same number "
        f"({printed.strip().splitlines()[0][:300] if printed.strip() else 'no more is known'}); start all processes "
        "again, each with its own --process"
    )


def gathered(what: str, text: str, seconds: int = ANSWER_SECONDS) -> list[str]:
    """The texts of all processes, by number; all processes must make the same such calls in the same order.

    Args:
      what: the processes do here, for the message if one does not come.
      seconds: after which it is an error that a process has not come.
    """
    if _Here.place is None:
        return [text]
    talk = f"talk/{next(_Here.talks)}"
    _client().key_value_set(f"{talk}/{index()}", text)
    if index():
        texts: list[str] = json.loads(_awaited(f"{talk}/all", 0, what, seconds))
        return texts
    texts = [_awaited(f"{talk}/{process}", process, what, seconds) for process in range(count())]
    _client().key_value_set(f"{talk}/all", json.dumps(texts))
    return texts


def barrier(what: str, seconds: int = ANSWER_SECONDS) -> None:
    """Waits until all processes are here. Raises UserError, with `what` and the process, if one does not come."""
    gathered(what, "", seconds)


def from_process(process: int, what: str, text: str = "", seconds: int = ANSWER_SECONDS) -> str:
    """The text that `process` gives; all processes must call this, and the other texts do not count."""
    if _Here.place is None:
        return text
    key = f"talk/{next(_Here.talks)}"
    if index() == process:
        _client().key_value_set(key, text)
        return text
    return _awaited(key, process, what, seconds)


def _awaited(key: str, process: int, what: str, seconds: int) -> str:
    try:
        value: str = _client().blocking_key_value_get(key, 1000 * seconds)
        return value
    except RuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        host = f" on {_Here.hosts[process]}" if _Here.hosts else ""
        raise UserError(
            f"process {process}{host} has kept the others waiting for {seconds} s at a point that all must reach "
            f"({what}); read its output, and start all processes again"
        ) from error


def one_first(shared: bool, what: str, work: Callable[[], Done]) -> Done:
    """Calls `work` in one process, or in one on each host, and then in the others; returns its result.

    Args:
      shared: whether the hosts share the disk that `work` writes to; then one process of all comes first.
      what: `work` does, as in "prepares the pictures", for messages.
    """
    if _Here.place is None:
        return work()
    leader = 0 if shared else list(_Here.hosts).index(_Here.hosts[index()])
    key = f"talk/{next(_Here.talks)}"
    say(f"process 0 {what} if needed; the others wait for it, {PREPARE_SECONDS // 3600} hours at most")
    if leader == index():
        done = work()
        _client().key_value_set(f"{key}/{leader}", "")
        return done
    _awaited(f"{key}/{leader}", leader, what, PREPARE_SECONDS)
    return work()


def require_alike(values: Mapping[str, str]) -> None:
    """Raises UserError, on every process, if a process has other values than process 0; names the first difference.

    Args:
      values: by their names, such as "config.train.seed".
    """
    if _Here.place is None:
        return
    digests = gathered("compares what must be equal on all processes", _digest(values))
    unlike = [process for process, digest in enumerate(digests) if digest != digests[0]]
    if not unlike:
        return
    theirs = json.loads(from_process(unlike[0], "sends its values", json.dumps(values)))
    ours = json.loads(from_process(0, "sends its values", json.dumps(values)))
    name = min(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    raise UserError(
        f"{name} is {theirs.get(name, 'absent')} in process {unlike[0]} on {_Here.hosts[unlike[0]]} and "
        f"{ours.get(name, 'absent')} in process 0 on {_Here.hosts[0]}; start all processes with the same command, "
        "program and data"
    )


def _digest(values: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def put(key: str, text: str) -> None:
    """Puts a text into the store, in place of an earlier one with the same key."""
    _client().key_value_set(key, text, True)


def got(folder: str) -> dict[str, str]:
    """The texts in a folder of the store, by the last part of their keys."""
    return {key.rpartition("/")[2]: text for key, text in _client().key_value_dir_get(f"{folder}/")}


def stands_at(step: int, steady: bool) -> None:
    """See `Watch.stands_at`."""
    if _Here.watch:
        _Here.watch.stands_at(step, steady)


def end(status: int = 0) -> None:
    """Waits until all processes are done, and leaves the cluster; process 0, which holds it together, comes last.

    Args:
      status: the program's exit status.
    """
    if _Here.watch is None:
        return
    import jax

    barrier("end", PREPARE_SECONDS)
    _Here.watch.close()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _Here.status = status
    jax.distributed.shutdown()


def fail(sentence: str) -> None:
    """Ends the process with status 1, if it is one of many, after the others know why.

    Args:
      sentence: was printed here already.
    """
    if _Here.watch:
        _Here.watch.leave(sentence)


def is_of_another(error: Exception) -> bool:
    """Whether the error is likely to come from an exchange with a process that has ended."""
    return _Here.place is not None and any(word in str(error) for word in WORDS_OF_AN_EXCHANGE)


def fail_by(error: Exception) -> None:
    """Ends the process, one of many, after an unexpected error: its own, or a failed exchange between devices.

    An exchange fails when another process has ended. The watch soon finds out which, and then ends this process.
    """
    if is_of_another(error):
        time.sleep(LOSS_SECONDS)
    traceback.print_exception(error)
    sentence = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
    say_error(sentence)
    fail(sentence)
