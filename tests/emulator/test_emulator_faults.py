"""What goes wrong on purpose goes wrong as often as was said, and the same again."""

import time
from concurrent.futures import ThreadPoolExecutor

import ee
import pytest
import requests
from ee_emulator import Emulator, EmulatorError, Faults
from emulated_store import small_backing
from hypothesis import given
from hypothesis import strategies as st

BODY = '{"expression": {"result": "0", "values": {"0": {"constantValue": [1, 2, 3]}}}}'
NUMBER = 80


@pytest.fixture(scope="module")
def emulator():
    with Emulator(small_backing()) as running:
        yield running


def ask(emulator, session=requests):
    return session.post(f"{emulator.url}/v1/projects/p/value:compute", data=BODY, timeout=30)


@pytest.mark.parametrize(
    ("share", "status", "word"),
    [
        ("quota", 429, "RESOURCE_EXHAUSTED"),
        ("internal", 500, "INTERNAL"),
        ("unavailable", 503, "UNAVAILABLE"),
        ("expired", 401, "UNAUTHENTICATED"),
    ],
)
def test_a_share_of_answers_is_an_error(emulator, share, status, word):
    emulator.reset()
    emulator.faults = faults = Faults(**{share: 0.3}, seed=3)
    answers = [ask(emulator) for _ in range(NUMBER)]
    wrong = [answer for answer in answers if answer.status_code == status]
    assert (
        len(wrong)
        == faults.planned(NUMBER)[share]
        == emulator.requests[status]
        == emulator.requests[share]
    )
    assert 0.15 * NUMBER < len(wrong) < 0.45 * NUMBER
    assert {answer.json()["error"]["status"] for answer in wrong} == {word}
    assert all(answer.json()["result"] == [1, 2, 3] for answer in answers if answer.ok)
    emulator.faults = faults
    assert [ask(emulator).status_code for _ in range(NUMBER)] == [a.status_code for a in answers]


def test_a_body_is_cut_off(emulator):
    emulator.reset()
    emulator.faults = Faults(truncated=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(emulator)
    assert emulator.requests["truncated"] == 1
    emulator.faults = Faults()
    assert ask(emulator).ok


def test_the_connection_survives_errors(emulator):
    emulator.faults = Faults(internal=0.5, seed=1)
    with requests.Session() as session:
        assert {ask(emulator, session).status_code for _ in range(20)} == {200, 500}
    emulator.faults = Faults()


def test_answers_wait(emulator):
    emulator.faults = Faults(latency=lambda number: 0.2 if number == 1 else 0.0)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        ask(emulator)
        seconds.append(time.perf_counter() - began)
    emulator.faults = Faults()
    assert seconds[1] >= 0.2
    assert min(seconds[0], seconds[2]) < 0.2


def test_too_many_at_once_are_refused(emulator):
    emulator.reset()
    emulator.faults = Faults(latency=0.5, concurrent=2)
    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(lambda _: ask(emulator).status_code, range(6)))
    peak = emulator.gate.peak
    emulator.faults = Faults()
    assert statuses == [200] * 2 + [429] * 4
    assert peak == 2
    assert emulator.requests["busy"] == 4


def test_only_the_kinds_named_are_disturbed(emulator):
    emulator.faults = Faults(internal=1, kinds=("pixels",))
    assert ask(emulator).ok
    pixels = requests.post(
        f"{emulator.url}/v1/projects/p/image:computePixels", data=BODY, timeout=30
    )
    assert pixels.status_code == 500
    emulator.faults = Faults()


def test_the_real_client_tries_again(emulator, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    emulator.initialize()
    emulator.reset()
    emulator.faults = faults = Faults(quota=0.2, internal=0.2, seed=5)
    assert [ee.Number(n).getInfo() for n in range(30)] == list(range(30))
    planned = faults.planned(emulator.requests["value"])
    assert emulator.requests[429] == planned["quota"] > 0
    assert emulator.requests[500] == planned["internal"] > 0
    assert emulator.requests[200] == 30
    emulator.faults = Faults()


def test_the_client_says_that_its_token_has_expired(emulator):
    emulator.initialize()
    emulator.faults = Faults(expired=1)
    try:
        with pytest.raises(Exception, match="credentials"):
            ee.Number(1).getInfo()
    finally:
        emulator.faults = Faults()


shares = st.floats(0, 0.2)


@given(shares, shares, shares, st.integers(0, 1000))
def test_the_plan_is_what_happens(quota, internal, truncated, seed):
    faults = Faults(quota=quota, internal=internal, truncated=truncated, seed=seed)
    drawn = [faults.of(number) for number in range(50)]
    assert drawn == [
        Faults(quota=quota, internal=internal, truncated=truncated, seed=seed).of(n)
        for n in range(50)
    ]
    assert faults.planned(50) == {
        name: drawn.count(name)
        for name, share in (("quota", quota), ("internal", internal), ("truncated", truncated))
        if share
    }


@pytest.mark.parametrize(
    "shares", [{"quota": 1.5}, {"internal": -0.1}, {"quota": 0.6, "internal": 0.6}]
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(EmulatorError, match=r"each 0\.\.1 and sum up to 1"):
        Faults(**shares)
