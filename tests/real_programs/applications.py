"""iperf3, gRPC and WebSockets."""

import json
import sys
from pathlib import Path

from processes import Example, Gate, Program, need, need_module, run, wait_until
from sockets import MIB, SECONDS, connect, free_port, largest_buffers


def iperf3_test(server, port, options):
    """The bytes sent and received. The server, on the port `server`, serves this test alone: one that serves many refuses
    connections for a moment after each."""
    program = need("iperf3")
    with Program([program, "-s", "-1", "-p", server, "-B", "127.0.0.1"]):
        # It serves one test, so no connection may be made only to see that it listens.
        listens = f":{server:04X} 00000000:0000 0A"
        wait_until(lambda: listens in Path("/proc/net/tcp").read_text(), "iperf3")
        report = json.loads(run(program, "-c", "127.0.0.1", "-p", port, "-J", *options, codes=(0, 1)))
    assert "error" not in report, (options, report["error"])
    return [report["end"][key]["bytes"] for key in ("sum_sent", "sum_received")]


def iperf3():
    server = free_port()
    with Gate(server) as gate:
        iperf3_through(server, gate)


IPERF3 = ["-n", "256M"], ["-R", "-n", "256M"], ["-P", "4", "-n", "1G"], ["-P", "4", "-R", "-n", "1G"]


def iperf3_through(server, gate):
    before = gate.memory()
    for options in IPERF3:
        sent, received = iperf3_test(server, gate.port, options)
        assert received > 16 * MIB, (options, received)
        # What is on the way at the end of a test, on both sides of the forwarder, is not counted as received.
        streams = 4 if "-P" in options else 1
        assert received + streams * 2 * largest_buffers() > sent, (options, sent, received)
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
