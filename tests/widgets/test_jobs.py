"""Jobs: one at a time, in order, to be watched and cancelled."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from timo_widgets.base.background import PAUSE_S
from timo_widgets.run.jobs import MOST_LINES, MOST_LOSSES, Queue

from timo.cancel import CancelledError
from timo.compute import StepReport
from timo.errors import TimoError


@pytest.fixture
def queue():
    queue = Queue()
    yield queue
    queue.close()


def until_stopped(job):
    while not job.stop.is_set():
        time.sleep(0.005)


def report(step, steps=10, loss=0.5):
    return StepReport(step, steps, epoch=0, loss=loss, eta=float(steps - step))


def test_a_job_runs_and_gives_its_result(queue):
    def task(job):
        for step in range(1, 4):
            job.report(report(step, 3))
        return "all of it"

    ended = []
    job = queue.submit("work", task, ended.append)
    assert queue.wait(10)
    assert (job.state, job.result, job.error) == ("done", "all of it", None)
    assert (job.step, job.steps, job.share) == (3, 3, 1.0)
    assert job.losses == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert next(iter(job.log)) == "epoch 1  step 1 of 3  loss 0.5000"
    assert ended == [job]
    assert job.seconds > 0


def test_jobs_wait_for_one_another(queue):
    begin, running, order = threading.Event(), [], []

    def task(job):
        begin.wait(10)
        running.append(1)
        order.append(job.title)
        assert len(running) == 1
        running.pop()

    jobs = [queue.submit(f"job {number}", task) for number in range(3)]
    time.sleep(0.05)
    assert [job.state for job in jobs] == ["running", "queued", "queued"]
    assert queue.current is jobs[0]
    begin.set()
    assert queue.wait(10)
    assert order == ["job 0", "job 1", "job 2"]
    assert [job.state for job in jobs] == ["done"] * 3


def test_a_running_and_a_waiting_job_are_cancelled(queue):
    begun = threading.Event()

    def task(job):
        begun.set()
        until_stopped(job)
        return "a part"

    ended = []
    first = queue.submit("first", task, ended.append)
    second = queue.submit("second", lambda _: pytest.fail("it was cancelled"), ended.append)
    begun.wait(10)
    second.cancel()
    assert second.state == "cancelled"
    assert first.state == "running"
    first.cancel()
    assert first.cancelling
    assert queue.wait(10)
    assert (first.state, first.result) == ("cancelled", "a part")
    assert sorted(job.title for job in ended) == ["first", "second"]
    first.cancel()
    assert first.state == "cancelled"


def test_a_task_may_end_by_raising_or_finish_all_the_same(queue):
    def gives_up(job):
        until_stopped(job)
        raise CancelledError("stopped")

    def finishes(job):
        until_stopped(job)
        return SimpleNamespace(stopped=False)

    def breaks(job):
        until_stopped(job)
        raise OSError("disk full")

    for task, state in ((gives_up, "cancelled"), (finishes, "done"), (breaks, "failed")):
        job = queue.submit("work", task)
        job.cancel() if job.state == "running" else time.sleep(0.05)
        job.cancel()
        assert queue.wait(10)
        assert job.state == state, task


def test_a_failure_is_kept_and_the_next_job_runs(queue):
    def task(_):
        raise TimoError("no labels: draw some")

    failed, fine = queue.submit("bad", task), queue.submit("good", lambda _: 7)
    assert queue.wait(10)
    assert failed.state == "failed"
    assert "draw some" in str(failed.error)
    assert fine.result == 7


def test_what_a_job_tells_is_bounded(queue):
    def task(job):
        for step in range(1, 3 * MOST_LOSSES):
            job.report(report(step, 3 * MOST_LOSSES))

    changes = []
    watched = Queue(changes.append)
    job = watched.submit("long", task)
    assert watched.wait(60)
    assert len(job.log) == MOST_LINES
    assert MOST_LOSSES // 2 <= len(job.losses) <= MOST_LOSSES
    assert job.losses == sorted(job.losses)
    assert job.losses[-1][0] > 3 * MOST_LOSSES - 10
    # Its states, and a few times a second in between.
    assert len(changes) <= job.seconds / PAUSE_S + 5
    watched.close()


def test_calls_come_in_the_event_loop_that_made_the_queue():
    async def main():
        threads, done = [], asyncio.Event()
        queue = Queue(lambda _: threads.append(threading.current_thread()))

        def end(job):
            threads.append(threading.current_thread())
            done.set()

        queue.submit("work", lambda job: job.report(report(1)), end)
        await asyncio.wait_for(done.wait(), 10)
        queue.close()
        return threads

    threads = asyncio.run(main())
    assert len(threads) >= 2
    assert set(threads) == {threading.main_thread()}


def test_what_is_done_at_an_end_may_ask_for_more(queue):
    results = []

    def end(job):
        results.append(job.result)
        if len(results) < 3:
            queue.submit("more", lambda _: len(results), end)

    queue.submit("first", lambda _: 0, end)
    assert queue.wait(10)
    assert results == [0, 1, 2]


def test_no_thread_is_left():
    before = set(threading.enumerate())
    queue = Queue()
    queue.submit("short", lambda _: 1)
    queue.wait(10)
    time.sleep(0.05)
    assert set(threading.enumerate()) == before  # none while there is nothing to do
    running = queue.submit("long", until_stopped)
    waiting = queue.submit("never", lambda _: 1)
    queue.close(5)
    assert set(threading.enumerate()) == before
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    with pytest.raises(TimoError, match="closed"):
        queue.submit("late", lambda _: 1)


def test_only_the_last_ended_jobs_are_listed():
    queue = Queue(keep=2)
    jobs = [queue.submit(str(number), lambda _: None) for number in range(5)]
    assert queue.wait(10)
    assert queue.jobs == jobs[-2:]
    queue.close()
