"""iperf3, gRPC and WebSockets."""

import contextlib
import json
import sys
import time
from pathlib import Path

from processes import Example, Gate, Program, need, need_module, run, wait_until
from sockets import MIB, SECONDS, connect, free_port

# Of a test by iperf3. On a busy machine, its connections are often in the wrong order.
ATTEMPTS = 15


def iperf3_test(program, port, options):
    """The bytes sent and received. A forwarder does not keep the order of connections, and iperf3 depends on it: its
    server pairs the streams of both directions by it, and rejects a test that begins before the last one has ended
    there. Such a test is repeated."""
    for attempt in range(ATTEMPTS):
        report = json.loads(run(program, "-c", "127.0.0.1", "-p", port, "-J", *options, codes=(0, 1)))
        error, last = report.get("error"), attempt == ATTEMPTS - 1
        if error:
            assert ("reset by peer" in error or "busy" in error) and not last, error
            time.sleep(0.2)
            continue
        sent, received = (report["end"][key]["bytes"] for key in ("sum_sent", "sum_received"))
        if received > 0 or "--bidir" not in options or last:
            return sent, received


@contextlib.contextmanager
def iperf3_server():
    program, port = need("iperf3"), free_port()
    with Program([program, "-s", "-p", port, "-B", "127.0.0.1"]):
        # It serves one test at a time, so no connection may be made only to see that it listens.
        listens = f":{port:04X} 00000000:0000 0A"
        wait_until(lambda: listens in Path("/proc/net/tcp").read_text(), "iperf3")
        yield port


def iperf3():
    with iperf3_server() as port, Gate(port) as gate:
        iperf3_through(gate)


IPERF3 = (["-n", "256M"], ["-R", "-n", "256M"], ["-P", "4", "-n", "256M"], ["-P", "4", "-R", "-n", "256M"],
          ["--bidir", "-t", "1"])


def iperf3_through(gate, tests=IPERF3):
    program, before = need("iperf3"), gate.memory()
    for options in tests:
        sent, received = iperf3_test(program, gate.port, options)
        assert received > 16 * MIB, (options, received)
        if "-n" in options:
            # What is on the way at the end of a test is not counted as received. For each stream, the
            # system's buffers may hold some 40 MiB on both sides of the forwarder.
            streams = 4 if "-P" in options else 1
            assert received + streams * 40 * MIB > sent, (options, sent, received)
    grown = gate.memory() - before
    assert grown < 64 * MIB, f"it has grown by {grown} bytes"


def grpc():
    _, check_end = grpc_checks()
    with Example("tonic", "127.0.0.1:0", "--plain") as server:
        with Gate(server.port) as gate:
            grpc_through(gate)
        with Gate(server.port, "tls", "alpn=h2") as gate:
            grpc_through(gate)
        with Gate(server.port) as gate:
            check_end(gate.port, None, server.process.terminate)


def grpc_through(gate):
    check, _ = grpc_checks()
    check(gate.port, gate.certificate)


def grpc_checks():
    need_module("grpc")
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from grpc_client import check, check_end

    return check, check_end


def websockets():
    need_module("websockets")
    with Example("websocket") as server, Gate(server.port, "tls") as secure, Gate(server.port) as plain:
        with open_websocket(secure) as client:
            websocket_through(client)
        with open_websocket(plain) as client:
            websocket_through(client)
            # The close frame of the server, and its reason, arrive.
            server.process.terminate()
            try:
                said = client.recv(SECONDS)
            except Exception as closed:  # the name of its type differs between versions
                said = closed.rcvd.code, closed.rcvd.reason
            assert said == (1001, "the server shuts down"), said


def open_websocket(gate):
    need_module("websockets")
    from websockets.sync.client import connect as open_client

    secure = {"ssl": gate.trust()} if gate.certificate else {}
    uri = f"{'wss' if secure else 'ws'}://{gate.host}:{gate.port}/"
    return open_client(uri, sock=connect(gate.port), open_timeout=SECONDS, **secure)


def websocket_through(client):
    for message in ("hello", b"bytes", "x" * 60_000, ""):
        client.send(message)
        assert client.recv(SECONDS) == message
    assert client.ping().wait(SECONDS)
