"""A real forwarding socket in front of an embedded exchange that a test can cut: every connection at once."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from urllib.parse import urlsplit

#: What a cut looks like from the near side.
REFUSE, RESET, SILENCE = "refuse", "reset", "silence"


class TcpGate:
    """Forwards connections to ``target`` until it is cut.

    ``refuse``: connections die and nobody listens. ``reset``: connections die, new ones die as soon as they are
    made. ``silence``: nothing dies and nothing passes; what is underway arrives when the cut is over, also what the
    sender has given up by then, as TCP does it.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self._open = threading.Event()
        self._open.set()
        self._how = ""
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._trigger: tuple[bytes, str, bool] | None = None
        self.triggered = threading.Event()
        self._listener = self._listen(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> TcpGate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._how = RESET
        self._stop_listening()
        self._break_all()
        self._open.set()

    def cut(self, how: str) -> None:
        """Cut every connection."""
        self._how = how
        self._open.clear()
        if how == REFUSE:
            self._stop_listening()
        if how != SILENCE:
            self._break_all()

    def heal(self) -> None:
        """Let everything through again."""
        if self._how == REFUSE:
            self._listener = self._listen(int(self.url.rpartition(":")[2]))
        self._how = ""
        self._open.set()

    def cut_at(self, start: bytes, how: str, *, delivered: bool) -> None:
        """Cut when a request that begins with ``start`` passes: after it was ``delivered``, or just before."""
        self.triggered.clear()
        self._trigger = (start, how, delivered)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), name="gate", daemon=True).start()
        return listener

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if self._how == RESET:
                _break(near)
                continue
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                far = socket.create_connection(self._target)
            except OSError:
                _break(near)
                continue
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [near, far]
            for pump in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=pump, name="gate pump", daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, inward: bool) -> None:
        try:
            while data := source.recv(65_536):
                if inward and self._trigger is not None and data.startswith(self._trigger[0]):
                    self._strike(data, sink)
                else:
                    self._open.wait()
                    sink.sendall(data)
            self._open.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _break(source)
            _break(sink)

    def _strike(self, data: bytes, sink: socket.socket) -> None:
        assert self._trigger is not None
        (_, how, delivered), self._trigger = self._trigger, None
        if delivered:
            self._open.clear()  # holds the answer back
            sink.sendall(data)
            threading.Event().wait(0.2)  # the far side has the request before its connection dies
        self.cut(how)
        self.triggered.set()
        if not delivered:
            self._open.wait()
            sink.sendall(data)

    def _break_all(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            _break(each)


def _break(connection: socket.socket) -> None:
    """End a connection with a TCP reset, and wake whoever waits on it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
    connection.close()
