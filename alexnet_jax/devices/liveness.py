"""Whether the other processes of a cluster are alive: nobody waits for one that was killed, hangs or has failed.

Each process says every two seconds that it lives, and where it stands, in the coordinator's store of keys and values.
Process 0 reads them all and writes the verdict, the one sentence by which all end.
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
SILENT = 35.0  # seconds without a sign of life, after which a process counts as dead; libraries may hold Python up
HUNG = 40.0  # seconds in which the others wait for a process that lives, between two steps of training
AT_WORK = 1800.0  # likewise, where it compiles, reports, validates or saves: on a slow disk that may take long
PARTING = 10.0  # seconds that whoever ends first waits until the others have heard of it


@dataclass
class Seen:
    """The last sign of life of a process."""

    text: str = ""
    heard: float = 0.0  # by this process's clock
    at: int = -1
    moved: float = 0.0  # likewise, when `at` became what it is
    step: int = 0
    steady: bool = False


class Watch:
    """One process's eye on the others, in threads of its own, from joining to the end."""

    def __init__(self, client: Any, process: int, hosts: list[str]) -> None:
        """Begins to watch.

        Args:
          client: of JAX's distributed runtime.
          hosts: of each process, by number.
        """
        self._client, self._process, self._hosts = client, process, hosts
        self._step, self._at, self._steady = 0, 0, False
        now = time.monotonic()
        self._seen = [Seen(heard=now, moved=now) for _ in hosts]
        self._over = threading.Event()  # all is done, or this process has failed: nothing is to be judged any more
        self._verdict, self._closed = threading.Event(), threading.Event()
        self._ending = threading.Lock()
        self._answered = now  # when the coordinator last did
        works = (self._beat, self._listen_for_the_coordinator)
        self._threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def stands_at(self, step: int, steady: bool) -> None:
        """The main thread is at a place that all processes pass.

        Args:
          step: of training.
          steady: whether the next place is near for all: no program is compiled, nothing is written on the way.
        """
        self._step, self._at, self._steady = step, self._at + 1, steady

    def leave(self, sentence: str) -> None:
        """Ends the process, status 1, after its failure has become the others'. It was said here already."""
        self._over.set()
        try:
            if self._process == 0:
                self._publish(self._named(0, sentence), waits_for=len(self._hosts) - 1)
            else:
                self._client.key_value_set(f"ended/{self._process}", sentence)
                self._verdict.wait(PARTING)
        except Exception:  # the store is gone, and with it the others
            pass
        _end()

    def close(self) -> None:
        """All processes are done."""
        self._over.set()
        self._closed.set()
        for thread in self._threads:
            thread.join(SILENT)

    def lost(self, process: int) -> None:
        """Ends this process, as that one is dead or hangs; without a word, where it was about to end anyway."""
        self._conclude(self._sentence_of_the_dead(process, "does not answer"))
        _end()

    def _named(self, process: int, sentence: str) -> str:
        return f"process {process} on {self._hosts[process]}: {sentence}"

    def _sentence_of_the_dead(self, process: int, how: str) -> str:
        return (
            f"process {process} on {self._hosts[process]} {how}; its last step was {self._seen[process].step}. Start "
            "all processes again: the same command goes on from the last checkpoint"
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
            except Exception:  # the store does not answer: see _listen_for_the_coordinator
                pass
            self._closed.wait(BEAT)

    def _judge(self) -> None:
        """Of process 0: who is dead, hangs or has failed."""
        for key, text in self._client.key_value_dir_get("beat/"):
            self._note(int(key.rpartition("/")[2]), text)
        if self._over.is_set():
            return
        for key, sentence in self._client.key_value_dir_get("ended/"):
            self._conclude(self._named(int(key.rpartition("/")[2]), sentence))
        now, furthest = time.monotonic(), max(one.at for one in self._seen)
        for process, one in enumerate(self._seen[1:], 1):
            self._conclude_if_silent(process, now - one.heard)
        for process, one in enumerate(self._seen):
            if one.at < furthest and now - one.moved > (HUNG if one.steady else AT_WORK):
                how = f"hangs: the others have waited for it for {now - one.moved:.0f} s"
                self._conclude(self._sentence_of_the_dead(process, how))

    def _note(self, process: int, text: str) -> None:
        one, now = self._seen[process], time.monotonic()
        if text == one.text:
            return
        found = json.loads(text)
        if found["at"] != one.at:
            one.moved = now
        one.text, one.heard, one.at = text, now, found["at"]
        one.step, one.steady = found["step"], found["steady"]

    def _look(self) -> None:
        """Of all others: the verdict, and where process 0 stands."""
        for _, text in self._client.key_value_dir_get("first/"):
            self._note(0, text)
        if verdict := self._client.key_value_dir_get("verdict/"):
            self._client.key_value_set(f"heard/{self._process}", "")
            self._conclude(verdict[0][1])

    def _listen_for_the_coordinator(self) -> None:
        """A thread beside the other, which may wait for an answer that never comes."""
        while self._process and not self._closed.wait(BEAT):
            self._conclude_if_silent(0, time.monotonic() - min(self._answered, self._seen[0].heard))

    def _conclude_if_silent(self, process: int, seconds: float) -> None:
        if seconds > SILENT:
            how = f"was killed or hangs: nothing has been heard of it for {seconds:.0f} s"
            self._conclude(self._sentence_of_the_dead(process, how), deaf=1)

    def _conclude(self, sentence: str, deaf: int = 0) -> None:
        """Says the sentence and ends the process; process 0 tells the others first.

        Args:
          deaf: how many of these will not hear it.
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
    """At once: the main thread may wait for one that never answers."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)
