"""Finds out whether the other processes of a cluster are alive, so that none waits for a process that is gone.

Every two seconds each process writes a heartbeat and its place into the coordinator's key-value store. Process 0 reads
them all; if a process was killed, hangs or has failed, process 0 writes the verdict, the sentence with which all end.
"""

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from alexnet_jax.messages import say_error

BEAT = 2.0  # seconds
SILENT = 35.0  # seconds without a heartbeat, after which a process counts as dead; libraries may block Python for long
HUNG = 40.0  # seconds that the others wait for a process between two training steps, before it counts as hanging
AT_WORK = 1800.0  # the same while it compiles, reports, validates or saves, which may take long on a slow disk
PARTING = 10.0  # seconds that a process which ends waits until the others know


@dataclass
class Seen:
    """The last heartbeat of a process."""

    text: str = ""
    heard: float = 0.0  # by this process's clock
    at: int = -1  # the number of the place where it stands
    moved: float = 0.0  # when it came to this place, by this process's clock
    step: int = 0
    steady: bool = False


class Watch:
    """Watches the other processes from threads of its own."""

    def __init__(self, client: Any, process: int, hosts: list[str]) -> None:
        """Starts to watch.

        Args:
          client: of JAX's distributed runtime.
          hosts: the host of each process, by number.
        """
        self._client, self._process, self._hosts = client, process, hosts
        self._step, self._at, self._steady = 0, 0, False
        now = time.monotonic()
        self._seen = [Seen(heard=now, moved=now) for _ in hosts]
        self._over = threading.Event()  # all is done, or this process has failed: no verdict is needed any more
        self._verdict, self._closed = threading.Event(), threading.Event()
        self._ending = threading.Lock()
        self._answered = now  # when the coordinator's store last answered
        works = (self._beat, self._listen_for_the_coordinator)
        self._threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def stands_at(self, step: int, steady: bool) -> None:
        """Called by the main thread at every place that all processes pass in the same order.

        Args:
          step: updates done.
          steady: whether all processes are near the next place: nothing is compiled, written or validated before it.
        """
        self._step, self._at, self._steady = step, self._at + 1, steady

    def leave(self, sentence: str) -> None:
        """Ends the process with status 1 after the others know its failure, which was printed here already."""
        self._over.set()
        try:
            if self._process == 0:
                self._publish(self._named(0, sentence), waits_for=len(self._hosts) - 1)
            else:
                self._client.key_value_set(f"ended/{self._process}", sentence)
                self._verdict.wait(PARTING)
        except Exception:  # the store is gone, and so are the other processes
            pass
        _end()

    def close(self) -> None:
        """Stops watching; all processes are done."""
        self._over.set()
        self._closed.set()
        for thread in self._threads:
            thread.join(SILENT)

    def lost(self, process: int) -> None:
        """Ends this process because another one is dead; silently if this one was about to end anyway."""
        self._conclude(self._sentence_of_the_dead(process, "does not answer"))
        _end()

    def _named(self, process: int, sentence: str) -> str:
        return f"process {process} on {self._hosts[process]}: {sentence}"

    def _sentence_of_the_dead(self, process: int, how: str) -> str:
        return (
            f"process {process} on {self._hosts[process]} {how}; its last step was {self._seen[process].step}. Start "
            "all processes again: the same command continues from the last checkpoint"
        )

    def _beat(self) -> None:
        count = 0
        while not self._closed.is_set():
            count += 1
            try:
                text = json.dumps({"count": count, "at": self._at, "step": self._step, "steady": self._steady})
                self._client.key_value_set(f"beat/{self._process}", text, True)
                if self._process == 0:
                    self._client.key_value_set("first/0", text, True)  # what the others read
                    self._judge()
                else:
                    self._look()
                self._answered = time.monotonic()
            except Exception:  # the store does not answer; see _listen_for_the_coordinator
                pass
            self._closed.wait(BEAT)

    def _judge(self) -> None:
        """In process 0: finds a process that is dead, hangs or has failed."""
        for key, text in self._client.key_value_dir_get("beat/"):
            self._note(int(key.rpartition("/")[2]), text)
        if self._over.is_set():
            return
        for key, sentence in self._client.key_value_dir_get("ended/"):
            self._conclude(self._named(int(key.rpartition("/")[2]), sentence))
        now, furthest = time.monotonic(), max(seen.at for seen in self._seen)
        for process, seen in enumerate(self._seen[1:], 1):
            self._conclude_if_silent(process, now - seen.heard)
        for process, seen in enumerate(self._seen):
            if seen.at < furthest and now - seen.moved > (HUNG if seen.steady else AT_WORK):
                how = f"hangs: the others have waited for it for {now - seen.moved:.0f} s"
                self._conclude(self._sentence_of_the_dead(process, how))

    def _note(self, process: int, text: str) -> None:
        seen, now = self._seen[process], time.monotonic()
        if text == seen.text:
            return
        found = json.loads(text)
        if found["at"] != seen.at:
            seen.moved = now
        seen.text, seen.heard, seen.at = text, now, found["at"]
        seen.step, seen.steady = found["step"], found["steady"]

    def _look(self) -> None:
        """In the other processes: reads the verdict, and where process 0 stands."""
        for _, text in self._client.key_value_dir_get("first/"):
            self._note(0, text)
        if verdict := self._client.key_value_dir_get("verdict/"):
            self._client.key_value_set(f"heard/{self._process}", "")
            self._conclude(verdict[0][1])

    def _listen_for_the_coordinator(self) -> None:
        """In a thread of its own: `_beat` may wait for an answer that never comes."""
        while self._process and not self._closed.wait(BEAT):
            self._conclude_if_silent(0, time.monotonic() - min(self._answered, self._seen[0].heard))

    def _conclude_if_silent(self, process: int, seconds: float) -> None:
        if seconds > SILENT:
            how = f"was killed or hangs: nothing has been heard from it for {seconds:.0f} s"
            self._conclude(self._sentence_of_the_dead(process, how), deaf=1)

    def _conclude(self, sentence: str, deaf: int = 0) -> None:
        """Prints the sentence and ends the process; process 0 tells the others first.

        Args:
          deaf: how many of the others cannot answer any more.
        """
        with self._ending:
            if self._over.is_set():
                self._verdict.set()
                return
            say_error(sentence)
            if self._process == 0:
                self._publish(sentence, waits_for=len(self._hosts) - 1 - deaf)
            _end()

    def _publish(self, sentence: str, waits_for: int) -> None:
        self._client.key_value_set("verdict/0", sentence)
        end = time.monotonic() + PARTING
        while time.monotonic() < end and len(self._client.key_value_dir_get("heard/")) < waits_for:
            time.sleep(BEAT / 10)


def _end() -> None:
    """Ends the process at once: the main thread may be waiting for a process that never answers."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)
