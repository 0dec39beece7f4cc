"""SIGKILL at seeded random moments, and signals that ask: the run ends as the undisturbed one."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet_jax.signals import STATUS
from tests.conftest import Launched, launch, result
from tests.faults.conftest import Flags
from tests.faults.harness import (
    EVERY,
    STEPS,
    Case,
    require_quiet,
    require_same_end,
    saved_steps,
    step_gone_on_from,
    steps_said,
    tried,
    until,
)

pytestmark = pytest.mark.faults

PHASES = ("starting", "training", "saving", "validating")


def at_a_moment(launched: Launched, phase: str, workdir: Path, rng: random.Random) -> bool:
    """Waits for a random moment of the phase; whether it came before the process ended."""
    after = rng.randint(1, 12)  # steps of the run
    validations = {f"step {step}/{STEPS} " for step in (22, 44, STEPS)}

    def has_begun() -> bool:
        said = launched.said
        if phase == "preparing":
            return "preparing it in" in said
        if phase == "training":
            return len(steps_said(said)) >= after
        if phase == "saving":
            return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))
        if phase == "validating":
            return any(said.rstrip().rpartition("\n")[2].startswith(line) for line in validations)
        return launched.has_begun

    longest = {"preparing": 0.5, "starting": 1.5, "training": 0.1, "saving": 0.1, "validating": 0.2}
    begun = until(has_begun, lambda: launched.runs)
    time.sleep(rng.uniform(0, longest[phase]))
    return begun and launched.runs


def kill_by_and_by(seed: int, phases: list[str], flags: tuple[str, ...], workdir: Path, cases: list[Case]) -> None:
    """One run that is killed in each of the phases, one after the other, and then left alone to its end."""
    rng = random.Random(seed)
    reached, whole, killed = 0, list[int](), None
    for phase in [*phases, ""]:
        launched = Launched(*flags)
        if phase and at_a_moment(launched, phase, workdir, rng):
            launched.send(signal.SIGKILL)
        done = launched.ended()
        require_quiet(done)
        if found := step_gone_on_from(done.stderr):
            assert found[0] == max([0, *whole]), done.stderr  # none that was whole is lost
            if killed:
                killed.again = max(0, reached - found[0])
                assert killed.again <= EVERY
            reached, killed = 0, None
        whole, reached = saved_steps(workdir), max([reached, *steps_said(done.stderr)])
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        cases.append(killed := Case(f"SIGKILL while {phase}"))
    assert result(done)["step"] == STEPS


def chain(seed: int) -> list[str]:
    """In which phases the run of the seed is killed; that of 0 is the short form."""
    if seed == 0:
        return ["preparing", "saving", "validating"]
    phases = [*PHASES, random.Random(seed).choice(PHASES)]
    random.Random(-seed).shuffle(phases)
    return ["preparing", *phases] if seed % 3 == 0 else phases


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11))])
def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(
    seed: int, flags_of: Flags, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    log_every, phases = 1 + 2 * (seed % 2), chain(seed)
    data = {"data": tmp_path / "data"} if "preparing" in phases else {}
    with tried() as cases:
        kill_by_and_by(seed, phases, flags_of(tmp_path / "run", log_every, **data), tmp_path / "run", cases)
        require_same_end(tmp_path / "run", undisturbed(log_every))
        for case in cases:
            case.identical = True


MOMENTS = [
    (number, phase)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for phase in ("training", "preparing", "saving", "validating", "starting")
]


@pytest.mark.parametrize(
    ("number", "phase"),
    [MOMENTS[0], *(pytest.param(*moment, marks=pytest.mark.slow) for moment in MOMENTS[1:])],
)
def test_a_run_told_to_stop_says_so_and_goes_on_where_it_was(
    number: signal.Signals, phase: str, flags_of: Flags, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    data = {"data": tmp_path / "data"} if phase == "preparing" else {}
    flags, workdir = flags_of(tmp_path / "run", 1, **data), tmp_path / "run"
    rng = random.Random(f"{number} {phase}")
    with tried(f"{number.name} while {phase}") as (case,):
        launched = Launched(*flags)
        assert at_a_moment(launched, phase, workdir, rng), launched.said
        launched.send(number)
        done = launched.ended()
        require_quiet(done)
        reached, last = max([0, *steps_said(done.stderr)]), done.stderr.strip().rpartition("\n")[2]
        is_prepared = phase == "preparing" and (tmp_path / "data/digits_72/1.0.0").exists()  # before the signal came
        if (phase == "starting" or is_prepared) and not reached:  # the second: before Python has run a line of ours
            assert done.returncode in (128 + number, -number, STATUS), done.stderr
        else:
            assert (done.returncode, last.startswith(f"stopped by {number.name} after ")) == (STATUS, True), done.stderr
        on = launch(*flags)
        require_quiet(on)
        case.again = reached - step_gone_on_from(on.stderr)[0]
        assert case.again == 0
        assert result(on)["step"] == STEPS
        require_same_end(workdir, undisturbed(1))
        case.identical = True
