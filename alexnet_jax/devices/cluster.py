"""Many processes as one program: how they join, and what they tell each other beside arrays.

Each process runs the same command, and JAX's distributed runtime joins them. A single process has no cluster, and all
that is asked here is answered for it at once.
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

ANSWER_SECONDS = 600  # until each has come to a place that all come to
PREPARE_SECONDS = 24 * 3600  # until the pictures are prepared: by one process, as long as that lives
LOSS_SECONDS = 60  # until it is known why an exchange between devices failed
RUNTIME_SECONDS = 100  # without a sign of life, after which JAX's runtime aborts all; ours says more, and earlier
Done = TypeVar("Done")
WORDS_OF_AN_EXCHANGE = ("Gloo", "gloo", "NCCL", "barrier", "oordination", "UNAVAILABLE", "peer")  # in its errors
WORDS_OF_THE_RUNTIME = "JAX distributed service"  # in what it prints when it aborts


class _Here:
    """This process's place, once it has joined."""

    place: Place | None = None
    watch: Watch | None = None
    hosts: Sequence[str] = ()
    talks = itertools.count()
    status: int | None = None  # with which it ends, once all are done


def index() -> int:
    """This process's number; 0 of a single one."""
    return _Here.place.process if _Here.place else 0


def count() -> int:
    """How many processes there are."""
    return _Here.place.processes if _Here.place else 1


def share_of_this_host() -> float:
    """Of all processes, those on this one's host."""
    return list(_Here.hosts).count(_Here.hosts[index()]) / count() if _Here.hosts else 1.0


def join(place: Place) -> None:
    """Joins the others; before any device is asked for. On CPUs each has one, unless JAX_NUM_CPU_DEVICES is set.

    Raises:
      UserError: the coordinator's address cannot be had or does not answer, or others do not come, in time.
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
    # What is done at a SIGTERM is the program's own business, and a handler of JAX's would take its place.
    jax.config.update("jax_enable_preemption_service", False)
    if jax.config.values["jax_num_cpu_devices"] == -1:
        jax.config.update("jax_num_cpu_devices", 1)
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", place.coordinator)
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=list(place.devices) if place.devices else None,
        cluster_detection_method="deactivate",  # they were asked already
        initialization_timeout=JOIN_SECONDS,
        coordinator_bind_address=bound,
        heartbeat_timeout_seconds=RUNTIME_SECONDS,
        shutdown_timeout_seconds=ANSWER_SECONDS,
    )
    _Here.hosts = gathered("host", socket.gethostname())
    _Here.watch = Watch(_client(), place.process, list(_Here.hosts))
    say(f"{place.processes} processes on {len(set(_Here.hosts))} host{'s' if len(set(_Here.hosts)) > 1 else ''}")


def _client() -> Any:
    """JAX's client of the coordinator's store, which has no public name; Orbax and others take it from here, too."""
    from jax._src import distributed

    return distributed.global_state.client


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    return host.strip("[]"), int(port)


def _await_the_coordinator(place: Place) -> None:
    """Raises UserError if nothing answers at its address in time: JAX's runtime would abort."""
    end, why = time.monotonic() + JOIN_SECONDS, "no answer"
    while time.monotonic() < end:
        try:
            with socket.create_connection(_address(place.coordinator), timeout=5):
                return
        except OSError as error:
            why = error.strerror or str(error)
            time.sleep(0.2)
    raise UserError(
        f"process 0, the coordinator, does not answer at {place.coordinator} within {JOIN_SECONDS} s ({why}); see "
        "whether it runs, and whether this host can reach that address and port"
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
                f"'{host}' is {where[0]} on its own host (/etc/hosts), where no other host reaches it; set "
                f"JAX_COORDINATOR_BIND_ADDRESS=ADDRESS:{port} in the environment"
            )
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(where)
    except OSError as error:
        remedy = (
            "another process listens there, perhaps another process 0: give each its own --process, and another port"
            if error.errno == errno.EADDRINUSE
            else "name an address of the host of process 0"
        )
        raise UserError(f"process 0 cannot listen at {bound} ({error.strerror or error}); {remedy}") from error


def _aborted(printed: str) -> None:
    """JAX's runtime, or another library, ends this process; `printed` is what it has to say."""
    place = _Here.place
    assert place is not None
    if _Here.status is not None:  # process 0 was gone before this one
        os._exit(_Here.status)
    if WORDS_OF_THE_RUNTIME not in printed:
        say_of_the_end(printed)
        say_error("a library aborted; its last words stand above")
    elif _Here.watch is None:
        say_error(_why_not_joined(place, printed))
        os._exit(1)
    else:
        _Here.watch.lost(0)


def _why_not_joined(place: Place, printed: str) -> str:
    if "DEADLINE_EXCEEDED" in printed and place.process == 0:
        return (
            f"not all {place.processes} processes have come to {place.coordinator} within {JOIN_SECONDS} s; start "
            f"one with each --process from 0 to {place.processes - 1}, and see what each says"
        )
    if "incarnation" in printed or "ALREADY_EXISTS" in printed or "ABORTED" in printed:
        return f"two processes have joined as --process={place.process}; give each its own number"
    return (
        f"process {place.process} could not join the others at {place.coordinator}: process 0 has ended, or two have "
        f"the same number ({printed.strip().splitlines()[0][:300] if printed.strip() else 'no more is known'})"
    )


def gathered(what: str, text: str, seconds: int = ANSWER_SECONDS) -> list[str]:
    """Every process's text, by number; all must come here, in the same order of such calls.

    Args:
      what: is asked, for the message where one does not come.
      seconds: until it is an error that one has not.
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
    """What that process says; all must come here, and its own text counts."""
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
            f"process {process}{host} has not come within {seconds} s to where the others wait for it ({what}); "
            "see what it says, and start all again"
        ) from error


def one_first(shared: bool, what: str, work: Callable[[], Done]) -> Done:
    """What `work` returns, done by one process of all, or by one on each host, and only then by the others.

    Args:
      shared: whether the hosts share what it leaves on disk, so that it is done once.
      what: it does, as in "prepares the pictures".
    """
    if _Here.place is None:
        return work()
    leader = 0 if shared else list(_Here.hosts).index(_Here.hosts[index()])
    key = f"talk/{next(_Here.talks)}"
    say(f"process 0 {what}, if need be; the others wait for it, {PREPARE_SECONDS // 3600} hours at most")
    if leader == index():
        done = work()
        _client().key_value_set(f"{key}/{leader}", "")
        return done
    _awaited(f"{key}/{leader}", leader, what, PREPARE_SECONDS)
    return work()


def require_alike(values: Mapping[str, str]) -> None:
    """Raises UserError, on every process, with the first difference between one's values and those of process 0.

    Args:
      values: by what they are, as in "config.train.seed".
    """
    if _Here.place is None:
        return
    digests = gathered("compares what all must have alike", _digest(values))
    unlike = [process for process, digest in enumerate(digests) if digest != digests[0]]
    if not unlike:
        return
    theirs = json.loads(from_process(unlike[0], "says what it has", json.dumps(values)))
    ours = json.loads(from_process(0, "says what it has", json.dumps(values)))
    name = min(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    raise UserError(
        f"{name} is {theirs.get(name, 'not there')} in process {unlike[0]} on {_Here.hosts[unlike[0]]} and "
        f"{ours.get(name, 'not there')} in process 0 on {_Here.hosts[0]}; start all processes with the same command, "
        "program and data"
    )


def _digest(values: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def put(key: str, text: str) -> None:
    """Leaves a text in the store, in place of what the key had."""
    _client().key_value_set(key, text, True)


def got(folder: str) -> dict[str, str]:
    """What has been left under the folder's keys, by the last part of each."""
    return {key.rpartition("/")[2]: text for key, text in _client().key_value_dir_get(f"{folder}/")}


def stands_at(step: int, steady: bool) -> None:
    """See `Watch.stands_at`."""
    if _Here.watch:
        _Here.watch.stands_at(step, steady)


def end(status: int = 0) -> None:
    """All is done here: waits for the others, and leaves the cluster; process 0, which holds it together, last.

    Args:
      status: with which the program is about to end.
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
    """Ends the process with status 1, if it is one of many: its failure, which was said, becomes theirs."""
    if _Here.watch:
        _Here.watch.leave(sentence)


def is_of_another(error: Exception) -> bool:
    """Whether the error is likely to be that another process has ended, of which the exchange with it fails."""
    return _Here.place is not None and any(word in str(error) for word in WORDS_OF_AN_EXCHANGE)


def fail_by(error: Exception) -> None:
    """Ends the process, one of many, by an error that nobody expected: its own, or an exchange that failed.

    An exchange between devices fails when another process has ended. The watch soon knows which, and ends this one.
    """
    if is_of_another(error):
        time.sleep(LOSS_SECONDS)
    traceback.print_exception(error)
    sentence = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
    say_error(sentence)
    fail(sentence)
