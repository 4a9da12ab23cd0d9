"""Work beside the notebook: what is delivered, replaced, cancelled and dropped."""

import asyncio
import threading

import pytest
from timo_widgets.base.background import Background, Mailbox

from timo.cancel import CancelledError, obey
from timo.compute import StepReport


@pytest.fixture
def background():
    failed, reports = [], []
    made = Background(failed.append, reports.append)
    made.failed, made.reports = failed, reports
    yield made
    made.close(5)


def test_what_a_task_finds_comes_to_the_thread_that_asked(background):
    threads, found = [], []

    def work(task):
        threads.append(threading.current_thread())
        task.report(StepReport(1, 4))
        return "found"

    def done(value):
        threads.append(threading.current_thread())
        found.append(value)

    background.run(work, done)
    assert background.busy
    assert background.wait(10)
    assert found == ["found"]
    assert not background.busy
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()
    assert background.failed == []


def test_a_newer_task_of_a_kind_takes_the_place_of_the_older(background):
    begin, found = threading.Event(), []

    def slow(task):
        begin.wait(10)
        return "first"

    background.run(slow, found.append, "image")
    background.run(lambda _: "second", found.append, "image")
    background.run(lambda _: "third", found.append, "image")
    background.run(lambda _: "other", found.append, "series")
    begin.set()
    assert background.wait(10)
    assert found == ["third", "other"]


@pytest.mark.parametrize("looks", [True, False])
def test_a_task_that_is_cancelled_fails(background, looks):
    begun, found = threading.Event(), []

    def work(task):
        begun.set()
        task.stop.wait(10)
        if looks:
            obey(task.stop, "Stopped after 3 of 4.")
        return "too late"

    background.run(work, found.append)
    assert begun.wait(10)
    background.cancel()
    assert background.wait(10)
    assert found == []
    assert isinstance(background.failed[0], CancelledError)
    assert ("3 of 4" in str(background.failed[0])) is looks


def test_of_a_task_that_is_dropped_nothing_is_heard(background):
    found = []
    background.run(lambda task: task.stop.wait(10), found.append)
    background.drop()
    assert not background.busy
    assert background.wait(10)
    assert (found, background.failed) == ([], [])


def test_what_goes_wrong_is_delivered_unless_it_is_closed(background):
    background.run(lambda _: 1 / 0, print)
    assert background.wait(10)
    assert isinstance(background.failed[0], ZeroDivisionError)
    background.close(5)
    background.run(lambda _: 1 / 0, print)
    assert background.wait(10)
    assert len(background.failed) == 1


def test_calls_of_one_sender_are_carried_out_once_and_in_the_loop_if_there_is_one():
    calls = []
    mailbox = Mailbox()
    for number in range(3):
        mailbox.post("one", lambda number=number: calls.append(number))
    mailbox.post("other", lambda: calls.append("other"))
    assert calls == []
    mailbox.empty()
    assert calls == [2, "other"]

    async def main():
        inside = Mailbox()
        threading.Thread(target=lambda: inside.post("a", lambda: calls.append("loop"))).start()
        while calls[-1] != "loop":
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert calls[-1] == "loop"
