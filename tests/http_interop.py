#!/usr/bin/env python3
"""Talks HTTP to the server in tests/http/server.rs with clients of other implementations: curl, h2load,
Python itself, and its h2, websockets and grpcio.

    python3 tests/http_interop.py

What is not installed is skipped and named; CI installs it first. Nothing but loopback is used. Each check
prints a line, a count comes last, and the exit code says whether all went well."""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 20
ROOT = Path(__file__).parent.parent
CARGO = ["cargo", "test", "--quiet", "--workspace", "--all-features", "--test", "http"]


class Missing(Exception):
    """What a check needs and is not here."""


def need(program):
    if not shutil.which(program):
        raise Missing(program)


def module(name):
    try:
        return __import__(name, fromlist=["x"])
    except ImportError:
        raise Missing(f"Python's {name.split('.')[0]}") from None


def executable():
    """The test binary, built where that is not done yet."""
    build = subprocess.run([*CARGO, "--no-run", "--message-format=json"], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE, check=True)
    for line in build.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "http":
            return message["executable"]
    raise AssertionError("cargo names no test binary")


class Server:
    """The server, from its start to its clean end on SIGTERM."""

    binary = None

    def __init__(self):
        self.stopped = False
        self.folder = tempfile.TemporaryDirectory()
        self.certificate = os.path.join(self.folder.name, "certificate.pem")
        command = [self.binary, "--ignored", "--exact", "server::serves_until_sigterm", "--nocapture"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env={**os.environ, "CERTIFICATE": self.certificate})

    def __enter__(self):
        for line in self.process.stdout:
            ports = re.findall(r"127\.0\.0\.1:(\d+)", line)
            if ports:
                self.plain, self.tls = map(int, ports)
                return self
        raise AssertionError("the server printed no address")

    def stop(self):
        # Once: a second signal is the wish not to wait for anybody.
        if not self.stopped:
            self.stopped = True
            self.process.send_signal(signal.SIGTERM)

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.stop()
        try:
            rest, _ = self.process.communicate(timeout=SECONDS)
            if kind is None:
                assert self.process.returncode == 0 and ", cut 0" in rest, rest
        finally:
            self.process.kill()
            self.process.wait()
            self.folder.cleanup()


def run(*command, stdin=None, fails=False):
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, timeout=SECONDS)
    assert fails or done.returncode == 0, (command, done.returncode, done.stderr[-500:])
    return done


def curl(server, path, *options, tls=False, stdin=None, fails=False):
    need("curl")
    base = f"https://localhost:{server.tls}" if tls else f"http://localhost:{server.plain}"
    trust = ["--cacert", server.certificate] if tls else []
    return run("curl", "--silent", "--show-error", "--noproxy", "*", "--ipv4", "--max-time", SECONDS, *trust, *options,
               base + path, stdin=stdin, fails=fails).stdout


VERSION = ["--write-out", " %{http_version} %{http_code}"]


def curl_versions(server):
    assert curl(server, "/", *VERSION) == b"hello 1.1 200"
    assert curl(server, "/", *VERSION, "--http1.0") == b"hello 1 200"
    assert curl(server, "/", *VERSION, "--http2-prior-knowledge") == b"hello 2 200"
    assert curl(server, "/", *VERSION, tls=True) == b"hello 2 200"
    assert curl(server, "/", *VERSION, "--http1.1", tls=True) == b"hello 1.1 200"
    assert curl(server, "/", *VERSION, "--http2") == b"hello 1.1 200", "an upgrade to h2c is declined"


EACH = [["--http1.1"], ["--http2-prior-knowledge"]]


def curl_head_and_missing(server):
    for version in EACH:
        head = curl(server, "/big/5000", "--head", *version)
        assert b"content-length: 5000" in head.lower(), head
        assert curl(server, "/missing", *VERSION, *version).endswith(b" 404")


def curl_big_bodies(server):
    data = os.urandom(1024) * 20_000
    digest = hashlib.sha256(data).digest()
    for options in [*([v, False] for v in EACH), [[], True], [["--http1.1"], True]]:
        version, tls = options
        back = curl(server, "/duplex", *version, "--data-binary", "@-", "--header", "expect:", tls=tls, stdin=data)
        assert hashlib.sha256(back).digest() == digest, (version, tls, len(back))
        back = curl(server, "/length", *version, "--upload-file", "-", "--request", "POST", tls=tls, stdin=data)
        assert back == str(len(data)).encode(), back


def curl_expect_continue(server):
    said = run("curl", "--silent", "--verbose", "--noproxy", "*", "--header", "expect: 100-continue", "--data", "12345",
               "--max-time", SECONDS, f"http://127.0.0.1:{server.plain}/length")
    assert b"100 Continue" in said.stderr and said.stdout == b"5", said


def curl_early_answer(server):
    """The answer to an upload that nobody reads arrives although the client still sends.

    Over HTTP/1.1: curl 7.88 does not take one over HTTP/2, see h2_early_answer."""
    for tls in [False, True]:
        for expect in ["expect:", "expect: 100-continue"]:
            said = curl(server, "/early", *VERSION, "--http1.1", "--header", expect, "--data-binary", "@-", tls=tls,
                        stdin=bytes(30_000_000), fails=True)
            assert said.endswith(b" 413"), (tls, expect, said)


def curl_keeps_alive(server):
    need("curl")
    # Over plain HTTP/2 curl 7.88 does not use a connection twice.
    for base in [f"http://127.0.0.1:{server.plain}", f"https://localhost:{server.tls}"]:
        urls = [f"{base}/?{number}" for number in range(20)]
        said = run("curl", "--silent", "--noproxy", "*", "--cacert", server.certificate, "--write-out",
                   " %{num_connects}\n", *urls)
        lines = said.stdout.split(b"\n")[:-1]
        assert lines == [b"hello 1"] + [b"hello 0"] * 19, lines


def load(server, *options, requests=3000):
    need("h2load")
    said = run("h2load", "-n", requests, "-c", 20, *options).stdout.decode()
    want = f"{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
    assert want in said, said


def h2load(server):
    plain, tls = f"http://127.0.0.1:{server.plain}", f"https://127.0.0.1:{server.tls}"
    load(server, "-m", 10, plain + "/")
    load(server, "-m", 10, tls + "/")
    load(server, "--h1", plain + "/")
    load(server, "--h1", tls + "/")
    load(server, "-m", 10, "-w", 14, plain + "/stream/40", requests=1000)


class H2:
    """A connection with Python's own HTTP/2 stack."""

    def __init__(self, server, tls=False, window=None):
        self.events = module("h2.events")
        connection, config = module("h2.connection"), module("h2.config")
        self.socket = socket.create_connection(("127.0.0.1", server.tls if tls else server.plain), SECONDS)
        if tls:
            context = ssl.create_default_context(cafile=server.certificate)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = connection.H2Connection(config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        if window is not None:
            settings = module("h2.settings")
            self.h2.update_settings({settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.send()

    def send(self):
        self.socket.sendall(self.h2.data_to_send())

    def get(self, path, end=True, method="GET", more=()):
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path), *more]
        self.h2.send_headers(stream, fields, end_stream=end)
        self.send()
        return stream

    def read(self):
        """The next events; none at the end. What is read is acknowledged, byte by byte."""
        data = self.socket.recv(65536)
        events = self.h2.receive_data(data) if data else []
        for event in events:
            if isinstance(event, self.events.DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.send()
        return events if data else None

    def answers(self, streams):
        """Reads the bodies of `streams` until all have ended."""
        bodies, open_streams = {stream: b"" for stream in streams}, set(streams)
        while open_streams:
            events = self.read()
            assert events is not None, "the connection ended before its streams"
            for event in events:
                if isinstance(event, self.events.DataReceived):
                    bodies[event.stream_id] += event.data
                elif isinstance(event, self.events.StreamEnded):
                    open_streams.discard(event.stream_id)
                assert not isinstance(event, self.events.StreamReset), event
        return bodies

    def until_end(self):
        """Reads until the connection ends: all that happened."""
        happened = []
        try:
            while (events := self.read()) is not None:
                happened += events
        except (ConnectionError, module("h2.exceptions").ProtocolError):
            pass
        return happened


def h2_many_streams(server):
    for tls in [False, True]:
        client = H2(server, tls)
        streams = [client.get(f"/stream/{number}") for number in range(100)]
        bodies = client.answers(streams)
        assert [len(bodies[stream]) for stream in streams] == [1024 * number for number in range(100)]


def h2_small_windows(server):
    client = H2(server, window=100)
    streams = [client.get("/big/20000") for _ in range(10)]
    assert all(len(body) == 20_000 for body in client.answers(streams).values())


def h2_early_answer(server):
    client = H2(server)
    stream = client.get("/early", end=False, method="POST")
    client.h2.send_data(stream, bytes(16_000))
    client.send()
    happened = []
    while not any(isinstance(event, client.events.StreamReset) for event in happened):
        happened += client.read()
    status = [dict(e.headers)[":status"] for e in happened if isinstance(e, client.events.ResponseReceived)]
    reset = [e.error_code for e in happened if isinstance(e, client.events.StreamReset)]
    assert status == ["413"] and reset == [0], happened
    # The connection lives on.
    assert client.answers([again := client.get("/")])[again] == b"hello"


def frames(connection):
    """Kind, flags, stream and payload of each frame that comes."""
    with connection.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            yield head[3], head[4], int.from_bytes(head[5:], "big"), stream.read(int.from_bytes(head[:3], "big"))


def h2_goodbye(_server):
    """On SIGTERM a GOAWAY comes, streams in flight are finished, and the connection ends.

    By hand from there on: for Python's h2 a connection is over with the first GOAWAY."""
    for tls in [False, True]:
        with Server() as leaving:
            client = H2(leaving, tls)
            streams = [client.get("/sleep/1000") for _ in range(10)]
            time.sleep(0.2)
            leaving.stop()
            told, ended = [], set()
            for kind, flags, stream, payload in frames(client.socket):
                assert kind != 3, "a stream was reset"
                if kind == 7:
                    told.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))
                if kind == 6 and not flags:
                    client.socket.sendall(bytes([0, 0, 8, 6, 1, 0, 0, 0, 0]) + payload)
                if kind in (0, 1) and flags & 1:
                    ended.add(stream)
            assert told == [(2**31 - 1, 0), (streams[-1], 0)], told
            assert ended == set(streams), ended
            client.socket.close()


def h2_reset_flood(server):
    client = H2(server)
    try:
        for _ in range(5000):
            client.h2.reset_stream(client.get("/sleep/20000"), error_code=8)
            client.send()
    except OSError:
        pass
    told = [e for e in client.until_end() if isinstance(e, client.events.ConnectionTerminated)]
    assert not told or told[-1].error_code == 11, told  # ENHANCE_YOUR_CALM
    assert curl(server, "/") == b"hello"


def h2_header_bomb(server):
    client = H2(server)
    # This client refuses to send what is larger than allowed: so the frames are made by hand.
    length = 8000
    field = b"\x00\x01x" + bytes([127, (length - 127) & 127 | 128, (length - 127) >> 7]) + b"y" * length
    block = client.h2.encoder.encode([(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
    blocks = [block, *[field] * 20]
    stream = client.h2.get_next_available_stream_id().to_bytes(4, "big")
    try:
        for number, part in enumerate(blocks):
            kind, flags = (9 if number else 1), (4 if number == len(blocks) - 1 else 0) | (0 if number else 1)
            client.socket.sendall(len(part).to_bytes(3, "big") + bytes([kind, flags]) + stream + part)
    except OSError:
        pass
    client.socket.settimeout(5)
    refused = False
    try:
        while (events := client.read()) is not None and not refused:
            refused = any(isinstance(e, (client.events.StreamReset, client.events.ConnectionTerminated))
                          or isinstance(e, client.events.ResponseReceived)
                          and dict(e.headers)[":status"] == "431" for e in events)
    except Exception as error:  # whatever this client makes of an answer to what it did not send
        refused = not isinstance(error, TimeoutError)
    assert refused or events is None, "the bomb was taken"
    assert curl(server, "/") == b"hello"


def websockets_echo(server):
    connect = module("websockets.sync.client").connect
    context = ssl.create_default_context(cafile=server.certificate)
    for uri, options in [(f"ws://127.0.0.1:{server.plain}/websocket", {}),
                         (f"wss://localhost:{server.tls}/websocket", {"ssl": context})]:
        with connect(uri, proxy=None, max_size=None, **options) as socket_:
            for message in ["hello", b"bytes", "x" * 300_000]:
                socket_.send(message)
                assert socket_.recv(SECONDS) == message
            socket_.ping().wait(SECONDS)


def trusting(server):
    return ssl.create_default_context(cafile=server.certificate)


def exchange(server, method, path, parts, length, tls):
    """Status and body of an answer as Python's http.client has it: it sends all of the body first."""
    client = (http.client.HTTPSConnection("localhost", server.tls, timeout=SECONDS, context=trusting(server)) if tls
              else http.client.HTTPConnection("127.0.0.1", server.plain, timeout=SECONDS))
    try:
        client.request(method, path, parts, {"content-length": str(length)})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def python_early_answer(server):
    """A 413 arrives although 5 MB are sent before anybody looks for it."""
    for tls in [False, True]:
        for _ in range(10):
            status, _body = exchange(server, "POST", "/early", [bytes(5_000_000)], 5_000_000, tls)
            assert status == 413, (tls, status)


def python_slow_upload(server):
    """400 kB at 200 kB/s, answered at once."""
    def slowly():
        for _ in range(40):
            time.sleep(0.05)
            yield bytes(10_000)

    for tls in [False, True]:
        status, _body = exchange(server, "POST", "/early", slowly(), 400_000, tls)
        assert status == 413, (tls, status)


def python_large_answer_to_unread_body(server):
    """3 MB to a GET with a body of 2 MB, which nobody reads."""
    for tls in [False, True]:
        for _ in range(4):
            status, body = exchange(server, "GET", "/big/3000000", [bytes(2_000_000)], 2_000_000, tls)
            assert (status, len(body)) == (200, 3_000_000), (tls, status, len(body))


def websockets_farewell(server):
    """All that a handler says before it drops its connection arrives, while the client talks.

    Without TLS: this client uses its TLS session in two threads at once, and hangs now and then."""
    client, exceptions = module("websockets.sync.client"), module("websockets.exceptions")
    for _ in range(20):
        # With a bound on its queue, this client would wait 10 s for itself in `send`.
        with client.connect(f"ws://127.0.0.1:{server.plain}/farewell", proxy=None, max_queue=None) as socket_:
            try:
                for _ in range(50):
                    socket_.send("x" * 2000)
            except exceptions.ConnectionClosedOK:
                pass  # It has read to the end already.
            said = []
            try:
                while True:
                    said.append(socket_.recv(SECONDS))
            except exceptions.ConnectionClosedOK:
                pass
            assert said == [str(number) for number in range(100)], len(said)


def websocket_ends_tls_in_order(server):
    """A WebSocket over TLS ends with `close_notify`: for Python's ssl the end is no error."""
    mask = bytes([1, 2, 3, 4])
    text, close = bytes([0x81, 0x80]) + mask, bytes([0x88, 0x80]) + mask
    # One is closed by the client; one is dropped by the server after its Close, while the client talks.
    for path, said in [("/websocket", [close]), ("/farewell", [text] * 20)]:
        for _ in range(10):
            raw = socket.create_connection(("127.0.0.1", server.tls), SECONDS)
            with trusting(server).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
                tls.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                            "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
                for frame in said:
                    tls.sendall(frame)
                heard = b""
                while part := tls.recv(65536):
                    heard += part
                assert heard.startswith(b"HTTP/1.1 101") and heard.endswith(b"\x88\0"), heard


def grpc(_server):
    """The example `tonic` with its own client, which says what it needs."""
    module("grpc")
    example, client = Path(Server.binary).parents[1] / "examples/tonic", ROOT / "tests/grpc_client.py"
    if not (example.exists() and client.exists()):
        raise Missing("the example tonic")
    process = subprocess.Popen([example, "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = next(line for line in process.stdout if "grpc_client.py " in line)
        run(sys.executable, client, *line.split("grpc_client.py ")[1].split())
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


CHECKS = [curl_versions, curl_head_and_missing, curl_big_bodies, curl_expect_continue, curl_early_answer,
          curl_keeps_alive, h2load, h2_many_streams, h2_small_windows, h2_early_answer, h2_goodbye, h2_reset_flood, h2_header_bomb,
          websockets_echo, python_early_answer, python_slow_upload,
          python_large_answer_to_unread_body, websockets_farewell, websocket_ends_tls_in_order, grpc]


def main():
    Server.binary = executable()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    only = sys.argv[1:]
    for check in CHECKS:
        if only and check.__name__ not in only:
            continue
        begun = time.monotonic()
        try:
            with Server() as server:
                check(server)
            counts["passed"] += 1
            print(f"ok: {check.__name__} in {time.monotonic() - begun:.1f} s", flush=True)
        except Missing as missing:
            counts["skipped"] += 1
            print(f"skipped: {check.__name__} needs {missing}", flush=True)
        except Exception as error:  # each failure is told, and the others go on
            counts["failed"] += 1
            print(f"FAILED: {check.__name__}: {type(error).__name__}: {error}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    sys.exit(1 if counts["failed"] else 0)


main()
