"""Sockets of the tests, and backends that are served by a function."""

import contextlib
import socket
import ssl
import struct
import threading
from pathlib import Path

SECONDS = 15
MIB = 1 << 20


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def largest_buffers():
    """How much the system keeps on one side of a forwarder: what a socket has sent, and what another one has received."""
    settings = [Path(f"/proc/sys/net/ipv4/tcp_{kind}").read_text() for kind in ("rmem", "wmem")]
    return sum(int(text.split()[2]) for text in settings)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def everything(stream):
    parts = []
    while part := stream.recv(MIB):
        parts.append(part)
    return b"".join(parts)


def exactly(stream, count):
    data = bytearray()
    while len(data) < count:
        part = stream.recv(min(MIB, count - len(data)))
        assert part, f"ended after {len(data)} of {count} bytes"
        data += part
    return bytes(data)


def reset(stream):
    """Closes with a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


class Backend:
    """A backend of this script: a function that is called in a thread with each connection."""

    def __init__(self, serve, port=0, address="127.0.0.1"):
        self.listener = socket.create_server((address, port), backlog=100)
        self.port = self.listener.getsockname()[1]
        self.error, self.served = None, threading.Semaphore(0)
        threading.Thread(target=self.accept, args=(serve,), daemon=True).start()

    def accept(self, serve):
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self.listener.accept()
                stream.settimeout(SECONDS)
                threading.Thread(target=self.serve, args=(serve, stream), daemon=True).start()

    def serve(self, serve, stream):
        try:
            serve(stream)
        except BaseException as error:  # told by `finished`
            self.error = error
        finally:
            stream.close()
            self.served.release()

    def finished(self):
        """Waits until a connection is served to its end."""
        assert self.served.acquire(timeout=SECONDS), "the backend did not finish"
        if self.error:
            raise self.error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Wakes the thread in `accept`.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def ends(stream):
    """How a connection ends: `end`, `reset`, or `cut` for TLS without `close_notify`."""
    try:
        while stream.recv(MIB):
            pass
        return "end"
    except ConnectionResetError:
        return "reset"
    except ssl.SSLError as error:
        # Older versions of Python have no type for it.
        if isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING":
            return "cut"
        raise
