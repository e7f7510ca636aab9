"""How connections end: half-close, reset, truncation; and backends that do not read."""

import contextlib
import hashlib
import random
import socket
import ssl
import threading

from processes import Gate, Missing, need, run
from sockets import MIB, SECONDS, Backend, ends, everything, exactly, largest_buffers, reset


def digest(stream, first=b""):
    """Reads all, and only at the end answers with a hash of it and of what was read first."""
    hashed = hashlib.sha256(first)
    while part := stream.recv(MIB):
        hashed.update(part)
    stream.sendall(hashed.hexdigest().encode())


def half_close():
    data = random.Random(3).randbytes(20 * MIB)
    expected = hashlib.sha256(data).hexdigest()
    with Backend(digest) as backend, Gate(backend.port) as gate:
        with gate.connect() as stream:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            assert everything(stream).decode() == expected
        backend.finished()
        commands = {"nc": ["nc", "-N", "127.0.0.1", gate.port],
                    "socat": ["socat", "-t", SECONDS, "-", f"TCP:127.0.0.1:{gate.port}"]}
        for name, command in commands.items():
            try:
                need(name)
            except Missing as missing:
                print(f"skipped: half_close with {missing}")
                continue
            assert run(*command, input=data, stdin=None).strip() == expected, name
            backend.finished()


def half_close_of_the_backend():
    """The backend ends first, and still reads what the client sends."""
    received = []

    def serve(stream):
        stream.sendall(b"hello")
        stream.shutdown(socket.SHUT_WR)
        received.append(everything(stream))

    data = random.Random(4).randbytes(5 * MIB)
    with Backend(serve) as backend, Gate(backend.port) as gate:
        with gate.connect() as stream:
            assert everything(stream) == b"hello"
            stream.sendall(data)
        backend.finished()
        assert received == [data], "the backend did not receive all"


def resets():
    """A reset of either side is a reset for the other, and an end is an end; under TLS `close_notify`."""
    def serve(stream):
        stream.sendall(b"x" * 100_000)
        kind = exactly(stream, 1)
        if kind == b"r":
            reset(stream)
        elif kind == b"w":
            stream.sendall(b"k")
            seen.append(ends(stream))

    def watched(gate):
        """A connection whose end the backend reports. A reset would discard what did not arrive before it."""
        stream = gate.connect()
        exactly(stream, 100_000)
        stream.sendall(b"w")
        assert exactly(stream, 1) == b"k"
        return stream

    seen = []
    with Backend(serve) as backend:
        for options, end, cut in ([], "end", ("reset",)), (["tls"], "end", ("reset", "cut")):
            with Gate(backend.port, *options) as gate:
                with gate.connect() as stream:
                    assert exactly(stream, 100_000) == b"x" * 100_000
                    stream.sendall(b"r")
                    how = ends(stream)
                    assert how in cut, f"a reset of the backend is seen as {how} {options}"
                backend.finished()
                with gate.connect() as stream:
                    exactly(stream, 100_000)
                    stream.sendall(b"e")
                    how = ends(stream)
                    assert how == end, f"an end of the backend is seen as {how} {options}"
                backend.finished()
                reset(watched(gate))
                backend.finished()
                assert seen.pop() == "reset", f"a reset of the client is not seen as one {options}"
                stream = watched(gate)
                if options:
                    stream.unwrap()
                stream.close()
                backend.finished()
                assert seen.pop() == "end", f"an end of the client is not seen as one {options}"
        # A TLS client that ends without `close_notify`: what it sent may not be all.
        with Gate(backend.port, "tls") as gate:
            stream = watched(gate)
            # Below TLS.
            socket.socket.shutdown(stream, socket.SHUT_WR)
            backend.finished()
            assert seen.pop() == "reset", "a truncated TLS stream is not seen as a reset"
            stream.close()


def resets_in_the_middle():
    """A reset while bulk data flows ends both sides, also where the pipe or a buffer is full."""
    def serve(stream):
        with contextlib.suppress(OSError):
            stream.sendall(b"x" * 64 * MIB)
        reset(stream)

    for options in [], ["tls"]:
        with Backend(lambda stream: (exactly(stream, 8 * MIB), reset(stream))) as backend:
            with Gate(backend.port, *options) as gate, gate.connect() as stream:
                try:
                    for _ in range(1000):
                        stream.sendall(b"x" * MIB)
                    raise AssertionError("the client could go on")
                except (ConnectionError, ssl.SSLError):
                    pass
        with Backend(serve) as backend, Gate(backend.port, *options) as gate:
            before = gate.memory()
            for _ in range(20):
                stream = gate.connect()
                exactly(stream, MIB)
                reset(stream)
                backend.finished()
            assert gate.memory() - before < 32 * MIB


def back_pressure():
    """A backend that stops reading stops the client before 8 MiB if the kernel's buffers are limited to 1 MiB, also after
    a long transfer. Otherwise they are as large as the system allows."""
    for options in [], ["tls"]:
        for first in 0, 32 * MIB:
            stopped_client(first, 8 * MIB, f"buffers={MIB}", *options)
            stopped_client(first, largest_buffers() + 4 * MIB, *options)


def stopped_client(first, limit, *options):
    """The backend reads so many bytes, and then nothing until the client is stopped, before the limit."""
    go_on = threading.Event()

    def serve(stream):
        # Of the buffers between both ends, only those of the gate may grow.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        begun = exactly(stream, first)
        go_on.wait(60)
        digest(stream, begun)

    with Backend(serve) as backend, Gate(backend.port, *options) as gate:
        before = gate.memory()
        part, sent, hashed = random.Random(5).randbytes(64 * 1024), 0, hashlib.sha256()
        with gate.connect() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
            # send, because sendall would not say how much it sent.
            with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
                while sent < first + 2 * limit:
                    stream.settimeout(SECONDS if sent < first else 1)
                    count = stream.send(part)
                    hashed.update(part[:count])
                    sent += count
            print(f"{sent - first} bytes were accepted after {first} ({' '.join(options) or 'plain'})")
            assert first <= sent < first + limit, f"{sent} bytes {options}"
            grown = gate.memory() - before
            assert grown < 8 * MIB, f"it has grown by {grown} bytes {options}"
            go_on.set()
            if "tls" in options:
                return  # A TLS record that was sent in part cannot be taken back.
            stream.settimeout(SECONDS)
            stream.shutdown(socket.SHUT_WR)
            assert everything(stream).decode() == hashed.hexdigest()
