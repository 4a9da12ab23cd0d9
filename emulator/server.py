"""The loopback server: HTTP around the service, with faults, counts and a log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .backing import Backing
from .errors import EmulatorError, EngineError
from .faults import FAULTY, Faults, Gate
from .routes import Answer, refusal, route
from .sample import sample_backing
from .service import Service

_LOG = logging.getLogger(__name__)
_FAILURES = {
    "quota": EngineError(
        "Quota exceeded for quota metric 'Earth Engine requests' and limit 'Earth Engine requests per minute' "
        "of service 'earthengine.googleapis.com'.",
        429,
    ),
    "internal": EngineError("An internal error has occurred.", 500),
    "unavailable": EngineError("The service is currently unavailable.", 503),
    "expired": EngineError(
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential.",
        401,
    ),
}
_BUSY = EngineError(
    "Too Many Requests: Request was rejected because the concurrency limit was exceeded.", 429
)


@dataclass(frozen=True)
class Entry:
    """One request in the log.

    Parameters
    ----------
    kind : str
        "discovery", "algorithms", "value", "pixels", "maps", "tiles" or "assets".
    status : int
        Of the answer.
    fault : str, optional
        What went wrong on purpose.
    seconds : float
        From the request's arrival to its answer.
    message : str
        Of an answer that is an error.
    """

    kind: str
    status: int
    fault: str | None
    seconds: float
    message: str = ""


class Emulator:
    """An Earth Engine on the loopback.

    Use it as a context manager, or call `start` and `close`.

    Parameters
    ----------
    backing : Backing, optional
        Its store; the sample if there is none given.
    faults : Faults, optional
        What goes wrong on purpose. It may be exchanged while the server runs.
    port : int
        Of 127.0.0.1; 0: one that is free.

    Attributes
    ----------
    requests : Counter
        How many requests there were of a kind ("value", "pixels", ...), a status (200, 429) or a fault ("quota", ...).
    log : list of Entry
        The requests in the order of their answers.

    Examples
    --------
    >>> with Emulator() as emulator:  # doctest: +SKIP
    ...     emulator.initialize()
    ...     ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").size().getInfo()
    140
    """

    def __init__(
        self, backing: Backing | None = None, faults: Faults | None = None, *, port: int = 0
    ) -> None:
        self.service = Service(backing if backing is not None else sample_backing())
        self.requests: Counter[str | int] = Counter()
        self.log: list[Entry] = []
        self._port = port
        self._numbers = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.faults = faults or Faults()

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose. Setting it numbers the requests from 0 again."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._faults, self._numbers = faults, 0
            self.gate = Gate(faults.concurrent)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end.

        Raises
        ------
        EmulatorError
            If it does not run.
        """
        if self._server is None:
            raise EmulatorError(
                "The emulator does not run. Call start(), or use it in a `with` block."
            )
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Emulator:
        """Begin to listen, and return itself."""
        if self._server is None:
            server = _Server(("127.0.0.1", self._port), _Handler)
            server.emulator = self
            self._server = server
            self._thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            )
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def initialize(self, project: str = "emulator") -> None:
        """Make the `ee` client of this process talk to it, without credentials."""
        import ee
        from google.auth.credentials import AnonymousCredentials

        ee.Initialize(credentials=AnonymousCredentials(), url=self.url, project=project)

    def reset(self) -> None:
        """Forget the counts and the log, and number the requests from 0 again."""
        self.requests.clear()
        self.log.clear()
        self.faults = self._faults

    def answer(self, method: str, path: str, body: bytes) -> tuple[Answer, bool]:
        """Return the answer to a request, and whether it is to be cut off."""
        began = time.perf_counter()
        kind, respond = route(self.service, self.url, method, path, body)
        fault, message = None, ""
        try:
            if kind in FAULTY and kind in self.faults.kinds:
                fault, answer = self._perhaps(respond)
            else:
                answer = respond()
        except EngineError as error:
            answer, message = refusal(error), error.message
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            _LOG.exception("The emulator could not compute a request of the kind %s.", kind)
            message = f"An internal error has occurred: {type(error).__name__}: {error}."
            answer = refusal(EngineError(message, 500))
        entry = Entry(kind, answer.code, fault, time.perf_counter() - began, message)
        with self._lock:
            self.requests.update([kind, answer.code, *([fault] if fault else [])])
            self.log.append(entry)
        return answer, fault == "truncated"

    def _perhaps(self, respond: Callable[[], Answer]) -> tuple[str | None, Answer]:
        """Return the answer, or what goes wrong instead."""
        with self._lock:
            number, faults, gate = self._numbers, self._faults, self.gate
            self._numbers += 1
        if not gate.enter():
            return "busy", refusal(_BUSY)
        try:
            if (pause := faults.seconds(number)) > 0:
                time.sleep(pause)
            fault = faults.of(number)
            return fault, refusal(_FAILURES[fault]) if fault in _FAILURES else respond()
        finally:
            gate.leave()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    emulator: Emulator


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out at once, and does not wait for the confirmation of the one before.
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _respond(self, body: bytes) -> None:
        answer, cut = self.server.emulator.answer(self.command, self.path, body)
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        sent = answer.body[: len(answer.body) // 2] if cut else answer.body
        self.close_connection = self.close_connection or cut
        try:
            self.wfile.write(sent)
        except (BrokenPipeError, ConnectionResetError):
            # The client went away before it had its answer.
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing: the emulator has a log of its own."""
