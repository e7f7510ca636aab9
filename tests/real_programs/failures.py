"""Backends that fail, and what the example `forward` reports."""

import contextlib
import itertools
import os
import socket
import sys
import threading
import time

from ends import digest
from processes import Example, Gate, Missing, Program, need, run, wait_until
from sockets import SECONDS, Backend, connect, ends, everything, exactly, free_port, reset


def backend_refuses():
    """The client sees the end at once; under TLS without `close_notify`, so that it is no complete answer."""
    for options, expected in ([], ("end", "reset")), (["tls"], ("cut", "reset")):
        with Gate(free_port(), *options) as gate:
            begun = time.monotonic()
            with gate.connect() as stream:
                how = ends(stream)
            assert how in expected, f"a refused connection is seen as {how} {options}"
            assert time.monotonic() - begun < 5


def backend_comes_back():
    with Gate(free_port()) as gate:
        assert ends(gate.connect()) in ("end", "reset")
        port = int(gate.command[2].rpartition(":")[2])
        for _ in range(3):
            listener = socket.create_server(("127.0.0.1", port))
            with gate.connect() as stream:
                server, _ = listener.accept()
                server.settimeout(SECONDS)
                stream.sendall(b"hello")
                assert exactly(server, 5) == b"hello"
                server.close()
                assert ends(stream) == "end"
            listener.close()
            assert ends(gate.connect()) in ("end", "reset")


def ends_are_reported():
    """The example `forward` logs how much went each way, and which side ended it."""
    with Backend(digest) as backend, Example("forward", "127.0.0.1:0", f"127.0.0.1:{backend.port}") as gate:
        with connect(gate.port) as stream:
            stream.sendall(b"hello")
            stream.shutdown(socket.SHUT_WR)
            assert len(everything(stream)) == 64
        gate.says(f"to 127.0.0.1:{backend.port}: .*ended by client, 5 bytes in, 64 bytes out")
    with Backend(lambda stream: stream.sendall(b"hello")) as backend:
        with Example("forward", "127.0.0.1:0", f"127.0.0.1:{backend.port}") as gate:
            with connect(gate.port) as stream:
                assert everything(stream) == b"hello"
            gate.says(f"to 127.0.0.1:{backend.port}: .*ended by backend, 0 bytes in, 5 bytes out")


def name_of(name):
    """A backend that answers each client with a name."""
    def serve(stream):
        exactly(stream, 1)
        stream.sendall(name)
    return serve


def answers(gate, count):
    """The names that so many clients get, 10 at a time."""
    names, lock = [], threading.Lock()

    def clients():
        for _ in range(count // 10):
            try:
                with connect(gate.port) as stream:
                    stream.sendall(b"?")
                    name = everything(stream)
            except OSError as error:
                name = str(error).encode()
            with lock:
                names.append(name)

    threads = [threading.Thread(target=clients) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return names


# What a client without a server gets.
CLOSED = {b"", b"[Errno 104] Connection reset by peer"}


def pool_of_three():
    """While one of three servers is down, no client notices. Without any, connections end soon."""
    def listen(port, name):
        return Backend(name_of(name), port)

    ports = [free_port() for _ in range(3)]
    servers = [f"127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as programs:
        with listen(ports[0], b"a"), listen(ports[1], b"b"):
            gate = programs.enter_context(Example("forward", "127.0.0.1:0", *servers))
            names = answers(gate, 300)
            assert set(names) == {b"a", b"b"}, set(names)
            # The third comes and goes several times a second.
            done = threading.Event()

            def flap():
                while not done.wait(0.1):
                    with listen(ports[2], b"c"):
                        done.wait(0.1)

            flapping = threading.Thread(target=flap)
            flapping.start()
            try:
                names = answers(gate, 1000)
            finally:
                done.set()
                flapping.join()
            # A connection that a listener has not accepted when it closes is reset, after it was established.
            wrong = [name for name in names if name not in (b"a", b"b", b"c")]
            assert set(wrong) <= CLOSED and len(wrong) < 20, wrong
        begun = time.monotonic()
        assert set(answers(gate, 20)) <= CLOSED
        assert time.monotonic() - begun < 10
        # All are back. A server that failed is used after two checks, which are five seconds apart.
        with listen(ports[0], b"a"), listen(ports[1], b"b"), listen(ports[2], b"c"):
            wait_until(lambda: not CLOSED & set(answers(gate, 10)), "the servers in use", seconds=30)


def silent_backends():
    """A backend that accepts and says nothing keeps only its own client waiting."""
    streams = []
    with Backend(lambda stream: ends(stream)) as backend, Gate(backend.port) as gate:
        for _ in range(50):
            streams.append(gate.connect())
        for stream in streams[:25]:
            stream.close()
        for stream in streams[25:]:
            reset(stream)
        for _ in streams:
            backend.finished()


# Two checks have one at the same time.
MACHINES = itertools.count()


@contextlib.contextmanager
def other_machine():
    """A network namespace, its network device, and the address that it has."""
    if os.getuid() != 0:
        raise Missing("the right to make a network namespace")
    ip = need("ip")
    number = next(MACHINES)
    name = f"gate{os.getpid() % 100_000}n{number}"
    there = f"{name}b"
    # 198.18.0.0/15 is for benchmarks of devices (RFC 2544).
    network = f"198.{18 + number % 2}.{os.getpid() % 250}"
    try:
        run(ip, "netns", "add", name)
    except AssertionError as error:
        raise Missing(f"network namespaces ({error})") from None
    try:
        run(ip, "link", "add", name, "type", "veth", "peer", "name", there, "netns", name)
        run(ip, "addr", "add", f"{network}.1/30", "dev", name)
        run(ip, "link", "set", name, "up")
        run(ip, "-n", name, "addr", "add", f"{network}.2/30", "dev", there)
        run(ip, "-n", name, "link", "set", there, "up")
        yield ip, name, there, f"{network}.2"
    finally:
        # The device is deleted with its peer, but later.
        run(ip, "link", "del", name, codes=(0, 1))
        run(ip, "netns", "del", name)


def backend_vanishes():
    """A machine that is gone sends neither an end nor a reset. New clients see the end of the bound for a connect,
    and others are not held up."""
    with other_machine() as (ip, name, there, address):
        server = [ip, "netns", "exec", name, sys.executable, "-c", ECHO, address]
        with Program(server) as program:
            port = program.says(r"(\d+)\n").group(1)
            with Gate(f"{address}:{port}") as gate:
                with gate.connect() as stream:
                    stream.sendall(b"hello")
                    assert exactly(stream, 5) == b"hello"
                    # It sends to an Ethernet address that nobody has, so nothing of it arrives.
                    wrong = [address.rpartition(".")[0] + ".1", "dev", there]
                    run(ip, "-n", name, "neigh", "replace", *wrong, "lladdr", "02:00:00:00:00:01", "nud", "permanent")
                    begun = time.monotonic()
                    with gate.connect() as late:
                        late.settimeout(40)
                        how = ends(late)
                    took = time.monotonic() - begun
                    assert how in ("end", "reset") and took < 30, (how, took)
                    # It comes back, and the open connection goes on.
                    stream.sendall(b"again")
                    run(ip, "-n", name, "neigh", "del", *wrong)
                    stream.settimeout(30)
                    assert exactly(stream, 5) == b"again"


def backend_stays_away():
    """Connections to a machine that is gone end after two minutes: idle ones by keepalive, and those whose bytes are not
    acknowledged by the user timeout."""
    with other_machine() as (ip, name, there, address):
        server = [ip, "netns", "exec", name, sys.executable, "-c", ECHO, address]
        with Program(server) as program:
            port = program.says(r"(\d+)\n").group(1)
            with Gate(f"{address}:{port}") as gate, gate.connect() as idle, gate.connect() as busy:
                for stream in (idle, busy):
                    stream.sendall(b"hello")
                    assert exactly(stream, 5) == b"hello"
                wrong = [address.rpartition(".")[0] + ".1", "dev", there]
                run(ip, "-n", name, "neigh", "replace", *wrong, "lladdr", "02:00:00:00:00:01", "nud", "permanent")
                begun = time.monotonic()
                busy.sendall(b"lost")
                for stream in (idle, busy):
                    stream.settimeout(180)
                    how = ends(stream)
                    took = time.monotonic() - begun
                    assert how in ("end", "reset") and 110 < took < 150, (how, took)


ECHO = """
import socket, sys, threading
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
def echo(stream):
    while part := stream.recv(65536):
        stream.sendall(part)
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""
