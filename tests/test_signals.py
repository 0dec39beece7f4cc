"""The first signal asks the program to stop, if it listens; otherwise, and at a second signal, the process ends."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import hashlib, signal, sys, time
from alexnet_jax.signals import listen, stop_signals
if "ignores" not in sys.argv:  # the program that runs the tests may ignore it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
listen()
def busy():  # like a compiler: no Python handler is called meanwhile
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
if sys.argv[1] == "asks":
    with stop_signals() as stop:
        print("ready", flush=True)
        while not stop.name:
            time.sleep(0.01)
        print(stop.name, flush=True)
        busy()
print("ready", flush=True)
busy()
"""


def started(how: str, before: str = "") -> subprocess.Popen[str]:
    command = f'{before} exec "$0" -c "$1" {how}'
    process = subprocess.Popen(
        ["sh", "-c", command, sys.executable, SCRIPT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_the_first_signal_asks_to_stop_and_the_second_ends_the_process(number: signal.Signals) -> None:
    process = started("asks")
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{number.name}\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (128 + number, f"error: stopped at once by {number.name}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_a_process_that_has_nothing_to_save(number: signal.Signals) -> None:
    process = started("does not")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (128 + number, f"error: stopped at once by {number.name}\n")


def test_an_ignored_hangup_stays_ignored() -> None:
    process = started("ignores", before="trap '' HUP;")  # what nohup does
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
