"""Work side by side: everything is done once, errors come back, and nothing is left running whatever happens."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import pytest

from fraud_assets.core.models import workers
from fraud_assets.core.models.validation import TrainingError
from fraud_assets.core.models.workers import end_idle, work_off
from fraud_assets.settings import PROJECT_ROOT

pytestmark = pytest.mark.usefixtures("signals_are_heard")


@dataclass(eq=False)
class Call:
    function: Callable[[], Any]

    def prepared(self):
        return self.function


@dataclass
class Calls:
    """Calls that wait for nothing."""

    left: list[Call]
    results: dict[Call, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.all = list(self.left)

    @property
    def is_done(self):
        return len(self.results) == len(self.all)

    def take(self):
        return self.left.pop(0) if self.left else None

    def give(self, job, result):
        assert job not in self.results
        self.results[job] = result


def results(functions, n):
    calls = Calls([Call(function) for function in functions])
    work_off(calls, n)
    return [calls.results[call] for call in calls.all]


@pytest.fixture(autouse=True)
def _none_left():
    yield
    end_idle()
    assert not children()


def children():
    return [one for one in running(psutil.Process().children()) if "workers import serve" in " ".join(one.cmdline())]


def running(processes):
    """Those that have not ended, whether or not somebody has looked how."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def meets(folder, n, value=None, then=None):
    """Waits until as many processes are at it, and gives a value and which process this is."""
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 60
    while len(list(folder.iterdir())) < n:
        assert time.monotonic() < end, "the others did not come"
        time.sleep(0.02)
    return (then or os.getpid)() if value is None else (value, os.getpid())


def met(tmp_path_factory, n):
    """The processes that do n things at once."""
    folder = tmp_path_factory.mktemp("met")
    return set(results([partial(meets, folder, n)] * n, n))


def test_everything_is_done_by_as_many_processes_as_are_asked_for(tmp_path):
    done = results([partial(meets, tmp_path, 3, value) for value in range(6)], 3)
    assert [value for value, _ in done] == list(range(6))
    assert len({pid for _, pid in done}) == 3
    assert os.getpid() in {pid for _, pid in done}


def test_one_process_starts_no_other():
    assert set(results([os.getpid] * 6, 1)) == {os.getpid()}
    assert not children()


def test_the_next_work_finds_the_same_workers(tmp_path_factory):
    assert met(tmp_path_factory, 2) == met(tmp_path_factory, 2)


def test_a_worker_that_waits_in_vain_ends_by_itself_and_another_takes_its_place(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.5)
    first = met(tmp_path_factory, 2)
    gone_within(10)
    assert first & met(tmp_path_factory, 2) == {os.getpid()}


def test_a_worker_that_ends_just_when_it_is_asked_is_started_again(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(workers._Helper, "is_there", True)
    first = met(tmp_path_factory, 2)
    gone_within(10)
    assert first & met(tmp_path_factory, 2) == {os.getpid()}


def gone_within(seconds, there=children):
    end = time.monotonic() + seconds
    while running(there()):
        assert time.monotonic() < end, "a worker is still there"
        time.sleep(0.05)


def fails():
    raise TrainingError("too few")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_an_error_comes_back_as_itself_wherever_it_was_raised(where, tmp_path):
    # The first is done here.
    calls = [partial(meets, tmp_path, 2, then=fails), partial(meets, tmp_path, 2)]
    with pytest.raises(TrainingError, match="too few") as caught:
        results(calls if where == "here" else calls[::-1], 2)
    assert any("in fails" in note for note in getattr(caught.value, "__notes__", [])) == (where == "elsewhere")


class UnsentError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def test_an_error_that_cannot_be_sent_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="UnsentError: a b"):
        results([partial(meets, tmp_path, 2), partial(meets, tmp_path, 2, then=raises_unsent)], 2)


def raises_unsent():
    raise UnsentError("a", "b")


def warns():
    warnings.warn("careful", UserWarning, stacklevel=1)
    return os.getpid()


def test_a_warning_comes_back_as_one(tmp_path):
    with pytest.warns(UserWarning, match="careful"):
        here, there = results([partial(meets, tmp_path, 2), partial(meets, tmp_path, 2, then=warns)], 2)
    assert here != there


def prints():
    print("a library says something")
    os.write(1, b"and something else\n")
    return 5


def test_what_is_printed_is_no_answer(tmp_path):
    assert results([partial(meets, tmp_path, 2), partial(meets, tmp_path, 2, then=prints)], 2)[1] == 5


def kills_itself_unless_it_is(pid):
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_what_a_worker_did_that_was_killed_is_done_again_and_said(tmp_path):
    """As the system does when memory is short."""
    killed = partial(meets, tmp_path, 2, then=partial(kills_itself_unless_it_is, os.getpid()))
    with pytest.warns(RuntimeWarning, match=r"was ended by signal 9; .* set FRAUD_WORKERS to fewer"):
        done = results([partial(meets, tmp_path, 2), killed, os.getpid], 2)
    assert done == [os.getpid(), "done", os.getpid()]


def in_a_pool(_):
    return results([os.getpid] * 4, 4)


def test_a_process_that_may_have_no_children_does_everything_itself():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (done,) = pool.map(in_a_pool, [None])
    assert len(set(done)) == 1


# As other processes see it: with a script that has no `if __name__ == "__main__"`.
SCRIPT = """
import sys, time
from functools import partial
from fraud_assets_tests.core.models.test_workers import results
print("begun", flush=True)
# A result that does not fit into a pipe is what a caller that is gone leaves unread.
results([partial(bytes, 10_000_000), *[partial(time.sleep, float(sys.argv[1]))] * 3, partial(bytes, 10_000_000)], 3)
print("done", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def script():
    def start(seconds, afterwards=0.0):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(seconds), str(afterwards)], cwd=PROJECT_ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "begun\n"
        end = time.monotonic() + 30
        while len(found := psutil.Process(process.pid).children()) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(4)
        return process, found

    started = []
    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nothing_is_left_when_a_command_has_ended(script):
    process, found = script(3.0)
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said, complained) == (0, "done\n", "")
    assert not running(found)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_busy_workers_end_with_a_command_that_is_killed(script, how):
    process, found = script(60.0)
    process.send_signal(how)
    process.wait(10)
    gone_within(5, lambda: found)
    # Of Ctrl-C the command itself tells, and nobody else.
    assert process.stderr.read().count("Traceback") == (how == signal.SIGINT)


def test_workers_that_wait_end_with_a_command_that_is_killed(script):
    process, found = script(0.0, afterwards=60.0)
    assert process.stdout.readline() == "done\n"
    assert len(running(found)) == 2
    process.kill()
    process.wait(10)
    gone_within(5, lambda: found)
