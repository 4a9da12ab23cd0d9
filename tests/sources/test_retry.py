"""Trying again: how often, how slowly, never in vain, and never with a credential in a message."""

import concurrent.futures
import contextlib
import errno
import io
import pickle
import socket
import ssl
import threading
import time
import traceback
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rasterio.errors import RasterioIOError

from timo.cancel import CancelledError
from timo.errors import TimoError
from timo.sources.earthengine.connecting import without_client_retries
from timo.sources.retry import (
    Gate,
    GivenUpError,
    Retry,
    Sorted,
    read_again,
    redact,
    sort_earthengine_error,
    sort_read_error,
)


class FakeTime:
    """A clock that sleeping moves, and a die that always throws the same share."""

    def __init__(self, share=1.0):
        self.now, self.naps, self.share = 1000.0, [], share

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.naps.append(seconds)
        self.now += seconds

    def uniform(self, low, high):
        return low + self.share * (high - low)


@pytest.fixture
def fake():
    with faked() as there:
        yield there


@contextlib.contextmanager
def faked(share=1.0):
    """Time and chance, made up for all that retries."""
    there = FakeTime(share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", there.clock)
        patch.setattr("time.sleep", there.sleep)
        patch.setattr("random.uniform", there.uniform)
        yield there


class ServiceError(Exception):
    pass


def by_first_word(error):
    if not isinstance(error, ServiceError):
        return "unknown"
    kind, _, message = str(error).partition(" ")
    return Sorted(kind, message, "Ask for less." if kind == "permanent" else "")


def failing(times, kind="transient", result="pixels"):
    calls = []

    def function(*arguments):
        calls.append(arguments)
        if len(calls) <= times:
            raise ServiceError(f"{kind} failure {len(calls)}")
        return result

    function.calls = calls
    return function


def test_what_succeeds_is_returned_at_once(fake):
    function = failing(0)
    assert Retry().call(function, 1, 2, classify=by_first_word) == "pixels"
    assert function.calls == [(1, 2)]
    assert fake.naps == []


def test_pauses_double_up_to_the_largest(fake):
    seen = []
    retry = Retry(initial_s=1, factor=2, largest_s=10)
    note = lambda *what: seen.append(what)  # noqa: E731
    assert retry.call(failing(6), classify=by_first_word, on_retry=note) == "pixels"
    assert fake.naps == [1, 2, 4, 8, 10, 10]
    assert [(number, pause) for number, pause, _ in seen] == [
        *enumerate([1, 2, 4, 8, 10, 10], start=1)
    ]
    assert seen[2][2] == Sorted("transient", "failure 3")


@given(
    share=st.floats(0, 1),
    initial=st.floats(0, 10),
    factor=st.floats(1, 5),
    largest=st.floats(0, 100),
    deadline=st.floats(0, 1000),
    kind=st.sampled_from(["transient", "quota"]),
)
def test_no_attempt_begins_after_the_deadline(share, initial, factor, largest, deadline, kind):  # noqa: PLR0917
    begun = []
    retry = Retry(
        attempts=50, initial_s=initial, factor=factor, largest_s=largest, deadline_s=deadline
    )

    def function():
        begun.append(fake.now - 1000)
        raise ServiceError(f"{kind} busy")

    with faked(share) as fake, pytest.raises(TimoError, match="busy"):
        retry.call(function, classify=by_first_word)
    assert begun[0] == 0
    assert max(begun) <= deadline + 1e-9
    assert fake.now - 1000 <= deadline + 1e-9
    if kind == "transient":
        # The rounding of the clock is added to that of the pause.
        for number, (first, second) in enumerate(pairwise(begun)):
            assert second - first <= min(largest, initial * factor**number) + 1e-6


def test_giving_up_says_how_often_how_long_and_what(fake):
    retry = Retry(deadline_s=100, largest_s=40)
    with pytest.raises(TimoError, match=r"tried 7 times within 63 s.*at most 100 s.*failure 7"):
        retry.call(failing(99), classify=by_first_word)
    with pytest.raises(TimoError, match="tried 3 times"):
        Retry(attempts=3).call(failing(99), classify=by_first_word)
    with pytest.raises(TimoError, match="tried once"):
        Retry(attempts=1).call(failing(99), classify=by_first_word)


def test_a_permanent_error_is_raised_at_once_with_the_remedy(fake):
    function = failing(99, "permanent")
    with pytest.raises(TimoError, match=r"^failure 1\. Ask for less\.$"):
        Retry().call(function, classify=by_first_word)
    assert len(function.calls) == 1
    assert fake.naps == []


def test_errors_of_other_code_come_out_as_they_are():
    def function():
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        Retry().call(function, classify=by_first_word)


def test_a_kind_without_a_message_is_enough():
    def function():
        raise ServiceError("Bearer ya29.abcdefgh is no good")

    with pytest.raises(TimoError, match="is no good") as caught:
        Retry().call(function, classify=lambda _: "permanent")
    assert "abcdefgh" not in str(caught.value)


def test_a_traceback_does_not_show_the_error_that_held_a_credential():
    def function():
        raise ServiceError(
            "permanent https://earthengine.googleapis.com/v1?key=AIzaSyVerySecretIndeed0123456789"
        )

    with pytest.raises(TimoError) as caught:
        Retry().call(function, classify=lambda e: Sorted("permanent", redact(str(e))))
    assert "VerySecret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def test_jitter_spreads_over_the_whole_pause():
    pauses = []
    for seed in range(400):
        with faked() as fake, pytest.MonkeyPatch.context() as patch:
            patch.setattr("random.uniform", np.random.default_rng(seed).uniform)
            Retry().call(failing(3), classify=by_first_word)
        pauses.append(fake.naps[2])
    quarters = np.histogram(pauses, bins=4, range=(0, 4))[0]
    assert quarters.min() > 60


def test_one_callers_quota_error_makes_the_others_wait():
    with faked(share=0.5) as fake:
        retry = Retry(quota_initial_s=8, initial_s=0)
        with pytest.raises(TimoError):
            Retry(attempts=1, gate=retry.gate, quota_initial_s=8).call(
                failing(9, "quota"), classify=by_first_word
            )
        assert retry.call(failing(0), classify=by_first_word) == "pixels"
    # Shut for 4 s, then spread over 4 s more.
    assert fake.now - 1000 == pytest.approx(4 + 0.5 * 4)


def test_quota_pauses_grow_with_each_crowd_and_not_with_each_request(fake):
    gate, longest = Gate(), []

    def refuse(started, now):
        fake.now = now
        gate.close(started, lambda n: longest.append(n) or 2 * 2**n, "429")
        with gate.turn():
            return fake.now

    # Requests under way at once are all refused.
    assert [refuse(1000, 1001) for _ in range(8)] == [1003] * 8
    assert longest == [0]
    assert refuse(1003, 1004) == 1008
    gate.passed(started=1003)  # it began before it was refused again
    assert refuse(1008, 1009) == 1017
    gate.passed(started=1017)
    assert refuse(1018, 1019) == 1021
    assert longest == [0, 1, 2, 0]


def test_who_cannot_pass_the_gate_in_time_says_why(fake):
    retry = Retry(deadline_s=10)
    retry.gate.close(999, lambda _: 60, "Too many concurrent requests")
    with pytest.raises(
        GivenUpError, match=r"No request could be made in time.*Too many concurrent"
    ):
        retry.call(failing(0), classify=by_first_word)
    assert fake.now == 1000


def test_copies_in_another_process_share_a_gate():
    retry = Retry(attempts=7)
    first, second = (pickle.loads(pickle.dumps(retry)) for _ in range(2))  # noqa: S301 - our own
    assert first == retry
    assert first.gate is second.gate is retry.gate
    assert Retry().gate is not retry.gate


@pytest.mark.parametrize("as_callable", [False, True])
def test_a_pause_ends_within_a_fifth_of_a_second_when_cancelled(as_callable, monkeypatch):
    stop = threading.Event()
    cancel = stop.is_set if as_callable else stop
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    retry = Retry(initial_s=30)
    paused = threading.Event()
    note = lambda *_: paused.set()  # noqa: E731
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            retry.call, failing(99), classify=by_first_word, stop=cancel, on_retry=note
        )
        assert paused.wait(5)
        began = time.monotonic()
        stop.set()
        with pytest.raises(CancelledError):
            future.result(5)
        assert time.monotonic() - began < 0.2


def test_nothing_is_tried_once_it_is_cancelled():
    function = failing(0)
    with pytest.raises(CancelledError):
        Retry().call(function, classify=by_first_word, stop=lambda: True)
    with pytest.raises(CancelledError), pytest.warns(DeprecationWarning, match="called stop= now"):
        Retry().call(function, classify=by_first_word, cancel=lambda: True)
    assert function.calls == []


def test_a_thousand_calls_with_a_tenth_of_failures_end_complete_and_unchanged():
    chance, lock, failures = np.random.default_rng(4), threading.Lock(), []
    retry = Retry(initial_s=0.0005, quota_initial_s=0.001, largest_s=0.01)

    def request(number):
        with lock:
            drawn = chance.random()
        if drawn < 0.1:
            failures.append(number)
            raise ServiceError("quota 429" if drawn < 0.03 else "transient 503")
        return number * number

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        results = list(
            pool.map(lambda n: retry.call(request, n, classify=by_first_word), range(1000))
        )
    assert results == [number * number for number in range(1000)]
    assert 60 < len(failures) < 160


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"deadline_s": -1}, {"initial_s": -1}, {"factor": 0.5}]
)
def test_bad_settings_are_refused(options):
    with pytest.raises(TimoError):
        Retry(**options)


# --- what errors mean


def earthengine_error(status, message, reason="Bad Request"):
    """The error that the ``ee`` client raises for a reply, with its own chain of causes."""
    ee = pytest.importorskip("ee")
    import json

    import httplib2
    from googleapiclient.errors import HttpError

    content = json.dumps({"error": {"code": status, "message": message}}).encode()
    response = httplib2.Response({"status": str(status)})
    response.reason = reason

    class Call:
        def execute(self, num_retries):
            assert num_retries == 0
            raise HttpError(
                response, content, uri="https://earthengine.googleapis.com/v1?key=AIzaSySecret"
            )

    try:
        ee.data._execute_cloud_call(Call(), num_retries=0)
    except ee.EEException as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("status", "message", "kind", "remedy"),
    [
        (429, "Too Many Requests", "quota", "workers"),
        (429, "", "quota", "workers"),
        (400, "Too many concurrent aggregations.", "quota", "workers"),
        (429, ("Quota exceeded for quota metric 'Number of read requests' and limit 'Number of read requests per "
              "minute per user' of service 'earthengine.googleapis.com' for consumer 'project_number:1'."),
         "quota", "workers"),
        (429, "Quota exceeded for quota metric 'EECU seconds' and limit 'EECU seconds per day'", "permanent", "wait"),
        (500, "An internal error has occurred (request: 12345678-aaaa)", "transient", ""),
        (500, "Backend user code not found", "transient", ""),
        (502, "", "transient", ""),
        (503, "The service is currently unavailable.", "transient", ""),
        (503, "Authentication backend unavailable.", "transient", ""),
        (504, "Deadline exceeded", "transient", ""),
        (400, "Earth Engine capacity exceeded.", "transient", ""),
        (400, "Computation timed out.", "permanent", "smaller chunks"),
        (504, "Computation timed out.", "permanent", "smaller chunks"),
        (400, "User memory limit exceeded.", "permanent", "smaller chunks"),
        (400, "Total request size (56623104 bytes) must be less than or equal to 50331648 bytes.",
         "permanent", "smaller chunks"),
        (400, "Request payload size exceeds the limit: 10485760 bytes.", "permanent", "simplify"),
        (401, "Request had invalid authentication credentials. Expected OAuth 2 access token",
         "permanent", "ee.Authenticate"),
        (401, "", "permanent", "ee.Authenticate"),
        (403, ("Google Earth Engine API has not been used in project 522309567947 before or it is disabled. Enable it "
              "by visiting https://console.developers.google.com/apis/api/... then retry."), "permanent", "Enable"),
        (403, "Project 'projects/p' is not registered to use Earth Engine.", "permanent", "register"),
        (403, ("Caller does not have required permission to use project p. Grant the caller the "
              "roles/serviceusage.serviceUsageConsumer role"), "permanent", "ee.Initialize"),
        (403, "Permission denied.", "permanent", "ee.Initialize"),
        (403, "", "permanent", "ee.Initialize"),
        (404, ("ImageCollection.load: ImageCollection asset 'COPERNICUS/S9' not found (does not exist or caller does "
              "not have access)."), "permanent", "identifier"),
        (400, "Image.select: Band pattern 'B99' did not match any bands. Available bands: [B1, B2]",
         "permanent", "bands="),
        (400, "Collection.first: Error in map(ID=1_LE07): Image.select: Pattern 'SR_3' did not match any bands.",
         "permanent", "bands="),
        (400, "Image.select: Band pattern 'B2' was applied to an Image with no bands.", "permanent", "widen"),
        (400, "Collection.first: Empty collection.", "permanent", "widen"),
        (400, "Unknown element type provided.", "permanent", "report"),
    ],
)  # fmt: skip
def test_replies_of_earth_engine_are_sorted(status, message, kind, remedy):
    found = sort_earthengine_error(earthengine_error(status, message))
    assert found.kind == kind
    assert remedy in found.remedy
    assert not remedy or kind == "quota" or found.remedy
    assert message.rstrip(".")[:40] in found.message
    assert "Secret" not in found.message


def test_the_status_counts_where_the_message_says_nothing():
    expected = {
        400: "permanent",
        401: "permanent",
        418: "permanent",
        429: "quota",
        599: "transient",
    }
    kinds = {code: sort_earthengine_error(earthengine_error(code, "?")).kind for code in expected}
    assert kinds == expected


def test_errors_of_the_libraries_below_are_sorted():
    auth = pytest.importorskip("google.auth.exceptions")
    requests = pytest.importorskip("requests")
    httplib2 = pytest.importorskip("httplib2")
    ee = pytest.importorskip("ee")
    response = requests.Response()
    response.status_code, response.url = 503, "https://example.org/?access_token=Secret"
    expected = [
        (auth.RefreshError("invalid_grant: Token has been expired or revoked.", {}), "permanent"),
        (auth.DefaultCredentialsError("Your default credentials were not found."), "permanent"),
        (auth.TransportError("Connection aborted."), "transient"),
        (auth.RefreshError("temporarily_unavailable", retryable=True), "transient"),
        (requests.exceptions.ConnectionError("Connection aborted."), "transient"),
        (requests.exceptions.Timeout("read timed out"), "transient"),
        (requests.exceptions.ChunkedEncodingError("IncompleteRead(5 bytes read)"), "transient"),
        (
            requests.exceptions.HTTPError("503 for url ?access_token=Secret", response=response),
            "transient",
        ),
        (requests.exceptions.SSLError("certificate verify failed"), "permanent"),
        (httplib2.ServerNotFoundError("Unable to find the server at x"), "transient"),
        (ssl.SSLEOFError("EOF occurred in violation of protocol"), "transient"),
        (ssl.SSLCertVerificationError("certificate verify failed"), "permanent"),
        (ConnectionResetError(104, "Connection reset by peer"), "transient"),
        (TimeoutError("timed out"), "transient"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "transient"),
        (OSError(101, "Network is unreachable"), "transient"),
        (ee.EEException("Earth Engine client library not initialized."), "permanent"),
        (ee.EEException("Please authorize access to your Earth Engine account"), "permanent"),
        (ee.EEException("ee.Initialize: no project found. Call with project="), "permanent"),
    ]
    found = [(error, sort_earthengine_error(error).kind) for error, _ in expected]
    assert found == expected
    assert all("Secret" not in sort_earthengine_error(error).message for error, _ in expected)


def test_errors_of_other_code_are_unknown():
    for error in (
        TypeError("x"),
        ValueError("x"),
        KeyError("x"),
        TimoError("x"),
        OSError(28, "No space left"),
    ):
        assert sort_earthengine_error(error).kind == "unknown"
    assert sort_earthengine_error(KeyboardInterrupt()).kind == "unknown"


@given(st.data())
def test_a_reply_that_was_cut_short_anywhere_is_transient(data):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 6), dtype=[("B2", "f4"), ("B3", "f4")]))
    whole = buffer.getvalue()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises((ValueError, EOFError)) as caught:
        np.load(io.BytesIO(cut))
    assert sort_earthengine_error(caught.value).kind == "transient"


def test_a_page_in_place_of_the_pixels_is_transient():
    with pytest.raises(ValueError, match="pickled") as caught:
        np.load(io.BytesIO(b"<html><title>502 Bad Gateway</title></html>"))
    assert sort_earthengine_error(caught.value).kind == "transient"


def test_a_reply_that_python_failed_to_parse_beside_other_threads_is_transient(monkeypatch):
    """No fault of the reply: literals parsed in several threads at a time (CPython issue 106905)."""

    def parse(_text):
        raise SystemError("AST constructor recursion depth mismatch (before=48, after=43)")

    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 6), dtype=[("B2", "f4"), ("B3", "f4")]))
    whole = buffer.getvalue()

    def read():
        return np.load(io.BytesIO(whole))

    monkeypatch.setattr("ast.literal_eval", parse)
    with pytest.raises(SystemError) as caught:
        read()
    assert sort_earthengine_error(caught.value).kind == "transient"
    assert sort_earthengine_error(SystemError("of other code")).kind == "unknown"
    monkeypatch.undo()
    attempts = []

    def now_and_then():
        attempts.append(None)
        if len(attempts) == 1:
            with monkeypatch.context() as patch:
                patch.setattr("ast.literal_eval", parse)
                return read()
        return read()

    assert Retry(initial_s=0).call(now_and_then).shape == (5, 6)
    assert len(attempts) == 2


# --- nothing secret

SECRET = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", min_size=24, max_size=60
).map(lambda text: f"Q{text}Z")
AROUND = st.text(
    st.characters(
        codec="ascii", categories=("L", "N", "Zs", "Po"), exclude_characters="@\\\"'%&#*"
    ),
    max_size=30,
).map(lambda text: f"{text} ")
PLACES = [
    "https://earthengine.googleapis.com/v1/projects/p?key={}&alt=json",
    "https://example.org/a?alt=json&access_token={}",
    "https://example.blob.core.windows.net/a.tif?sv=2021&sig={}&se=1",
    "https://storage.googleapis.com/x?X-Goog-Signature={}&X-Goog-Expires=3",
    "https://me:{}@example.org/catalog",
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    "{{'Authorization': 'Bearer {}', 'x': 1}}",
    '{{"authorization": "Token {}"}}',
    "bearer {}",
    "ya29.{}",
    "1//{}",
    "AIza{}",
    "GOCSPX-{}",
    "eyJ{}.abc.def",
    '{{"private_key": "{}", "type": "service_account"}}',
    '{{"private_key_id": "{}"}}',
    "{{'refresh_token': '{}'}}",
    "client_secret={}",
    "api_key = {}",
    "apikey='{}'",
    "TOKEN={}",
    "password={};",
    "-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\\n{}\\n",
    "{}@project.iam.gserviceaccount.com",
]


@given(secret=SECRET, place=st.sampled_from(PLACES), before=AROUND, after=AROUND)
def test_no_credential_is_left_in_a_text(secret, place, before, after):
    assume(secret[1:-1] not in before + after)
    text = redact(
        f"{before}{place.replace('{{', '{').replace('}}', '}').replace('{}', secret)} {after}"
    )
    assert secret not in text
    assert secret[1:-1] not in text
    assert "hidden" in text
    assert redact(text) == text


def test_what_is_not_secret_stays():
    for text in (
        "Total request size (56623104 bytes) must be less than or equal to 50331648 bytes.",
        "Image.select: Band pattern 'B99' did not match any bands. Available bands: [B1, B2]",
        "Quota exceeded for quota metric 'Number of read requests' of service 'earthengine.googleapis.com'",
        "https://code.earthengine.google.com/register?project=my-project",
        "Expected OAuth 2 access token, login cookie or other valid authentication credential.",
        "chunk (0, 1, 2) of COPERNICUS/S2_SR_HARMONIZED; key frames, monkey=3",
    ):
        assert redact(text) == text


@given(st.text(max_size=300))
def test_any_text_can_be_redacted_twice(text):
    assert redact(redact(text)) == redact(text)


# --- reads of rasters


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RasterioIOError("HTTP response code: 503"), "transient"),
        (RasterioIOError("Request for 0-99 failed with response_code=429"), "transient"),
        (RasterioIOError("CURL error: Connection reset by peer"), "transient"),
        (OSError("HTTP error code : 503 - https://x.org/404/a.tif"), "transient"),
        (OSError("HTTP/1.1 502 Bad Gateway"), "transient"),
        (OSError("Read error at scanline 512; got 3 bytes of http://x.org/512/a.tif"), "unknown"),
        (RasterioIOError("CURL error: Operation timed out after 5000 milliseconds"), "transient"),
        (RasterioIOError("CURL error: Could not resolve host: x.invalid"), "transient"),
        (OSError(errno.EIO, "Input/output error"), "transient"),
        (OSError(errno.ESTALE, "Stale file handle"), "transient"),
        (TimeoutError("timed out"), "transient"),
        (ConnectionResetError(104, "Connection reset by peer"), "transient"),
        (RasterioIOError("HTTP response code: 404"), "unknown"),
        (RasterioIOError("HTTP response code: 403"), "unknown"),
        (RasterioIOError("/a/b.tif: No such file or directory"), "unknown"),
        (
            RasterioIOError("TIFFReadEncodedTile() failed. got 3138 bytes, expected 32768"),
            "unknown",
        ),
        (FileNotFoundError(2, "No such file"), "unknown"),
        (PermissionError(13, "Permission denied"), "unknown"),
        (ValueError("not a GeoTIFF"), "unknown"),
        (TimoError("try again"), "unknown"),
    ],
)
def test_errors_of_reads_are_sorted(error, kind):
    assert sort_read_error(error).kind == kind


def test_the_cause_of_a_failed_read_counts():
    error = RasterioIOError("Read failed. See previous exception for details.")
    error.__cause__ = RuntimeError("IReadBlock failed: HTTP response code: 502")
    assert sort_read_error(error).kind == "transient"
    # GDAL numbers its errors on its own: 4 is "open failed" there, and EINTR of the system.
    error.__cause__ = RuntimeError("IReadBlock failed at X offset 2")
    error.__cause__.errno = 4
    assert sort_read_error(error).kind == "unknown"


def test_a_read_that_fails_for_a_moment_is_made_again(fake):
    errors = [
        OSError(errno.ESTALE, "Stale file handle"),
        RasterioIOError("HTTP response code: 500"),
    ]

    def read():
        if errors:
            raise errors.pop()
        return "pixels"

    assert read_again(read, what="a.tif") == "pixels"
    assert fake.naps == [0.5, 1.0]


def test_a_read_that_keeps_failing_says_what_it_was_and_hides_signatures(fake):
    def read():
        raise RasterioIOError("https://x.org/a.tif?sig=VerySecretSignature HTTP response code: 503")

    with pytest.raises(
        GivenUpError, match=r"^a\.tif \(B4\) could not be read: tried 3 times"
    ) as got:
        read_again(read, what="a.tif (B4)", attempts=3)
    assert "VerySecret" not in "".join(traceback.format_exception(got.value))
    assert len(fake.naps) == 2


def test_a_missing_file_is_read_once(fake):
    with pytest.raises(FileNotFoundError):
        read_again(lambda: open("/no/such/file"), what="it")  # noqa: PTH123, SIM115
    assert fake.naps == []


# --- how many requests at a time


def test_requests_begin_at_even_distances(fake):
    gate, begun = Gate(per_second=4), []
    for _ in range(5):
        with gate.turn() as started:
            begun.append(started - 1000)
    assert begun == [0, 0.25, 0.5, 0.75, 1.0]
    fake.now += 10
    with gate.turn() as started:
        assert started == fake.now


def test_no_more_requests_are_under_way_than_allowed():
    gate, lock, under_way, most = Gate(concurrent=3), threading.Lock(), 0, 0

    def request(_):
        nonlocal under_way, most
        with gate.turn():
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.002)
            with lock:
                under_way -= 1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(40)))
    assert most == 3


def test_who_waits_for_room_can_be_cancelled():
    gate = Gate(concurrent=1)
    with gate.turn(), pytest.raises(CancelledError), gate.turn(lambda: True):
        pass


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Gate, {"per_second": 0}),
        (Gate, {"concurrent": 0}),
        (Retry, {"attempts": 0}),
        (Retry, {"factor": 0}),
        (Retry, {"deadline_s": "0"}),
    ],
)
def test_bad_limits_are_refused(kind, options):
    with pytest.raises(TimoError, match=f"{next(iter(options))} must be a .*; got '?0"):
        kind(**options)


# --- the client's own retries


def test_the_clients_retries_are_off_while_anybody_needs_it():
    ee = pytest.importorskip("ee")
    before = ee.data._get_state().max_retries
    ee.data.setMaxRetries(3)
    try:
        barrier, seen = threading.Barrier(9), []

        def work(number):
            barrier.wait()
            for _ in range(50):
                with without_client_retries():
                    seen.append(ee.data._get_state().max_retries)
                    if number % 2:
                        time.sleep(0.0002)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        barrier.wait()
        for thread in threads:
            thread.join()
        assert seen == [0] * 400
        assert ee.data._get_state().max_retries == 3
        with pytest.raises(KeyError), without_client_retries():
            raise KeyError
        assert ee.data._get_state().max_retries == 3
        with without_client_retries():
            ee.data.setMaxRetries(7)
        assert ee.data._get_state().max_retries == 7
    finally:
        ee.data.setMaxRetries(before)
