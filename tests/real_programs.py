#!/usr/bin/env python3
"""Sends real programs through the examples `gate` and `forward`: Redis, PostgreSQL, iperf3, gRPC, WebSockets,
HAProxy and nginx on either side, netcat and socat, and backends that fail.

    cargo build --examples --all-features
    python3 tests/real_programs.py [--only NAME] [FOLDER]

FOLDER has the examples, target/debug/examples by default. What is not installed is skipped and named; CI
installs it first. Servers listen on free ports of loopback and keep their files in a temporary folder. Only
processes that were started here are ended. The checks of a vanished backend need root, for a network namespace."""

import contextlib
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 15
MIB = 1 << 20


class Missing(Exception):
    """What a check needs and is not here."""


def need(*programs):
    """The paths of programs, of which some are not in the path of an ordinary user."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = [shutil.which(program, path=path) for program in programs]
    for program, where in zip(programs, found):
        if where is None:
            raise Missing(program)
    return found if len(found) > 1 else found[0]


def need_module(name):
    if not importlib.util.find_spec(name):
        raise Missing(f"the Python module {name}")


# Processes


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Program:
    """A program in the background. It is ended by a signal, and killed if it does not end."""

    def __init__(self, command, stop=signal.SIGTERM, port=None, codes=None, **options):
        self.command = [str(word) for word in command]
        self.stop, self.codes = stop, codes
        self.log = tempfile.TemporaryFile("w+")
        options.setdefault("stdout", self.log)
        self.process = subprocess.Popen(self.command, stderr=self.log, **options)
        try:
            if port is not None:
                self.wait_for(port)
        except BaseException:
            self.end()
            raise

    def wait_for(self, port):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), timeout=1).close()
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"{self.command[0]} does not listen: {self.output()[-500:]}")

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(self.stop)
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "killed"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.end()
        if kind is None and self.codes is not None:
            assert code in self.codes, f"{self.command[0]} ended with {code}: {self.output()[-500:]}"


class Example(Program):
    """An example of this repository, which prints its address and ends well on SIGTERM."""

    folder = None

    def __init__(self, name, *arguments):
        super().__init__([self.folder / name, *arguments], codes=[0], stdout=subprocess.PIPE, text=True)
        try:
            self.port = int(self.says(r"127\.0\.0\.1:(\d+)").group(1))
        except BaseException:
            self.end()
            raise

    def says(self, pattern):
        """Waits for a line with this in it. A program that says nothing is killed, which ends the wait."""
        bound = threading.Timer(SECONDS, self.process.kill)
        bound.start()
        try:
            for line in self.process.stdout:
                if found := re.search(pattern, line):
                    return found
        finally:
            bound.cancel()
        raise AssertionError(f"{self.command[0]} did not say {pattern}: {self.output()[-500:]}")

    def memory(self):
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status).group(1)) * 1024


class Gate(Example):
    """A forwarder to a port of this machine, or to another address."""

    def __init__(self, backend, *options):
        backend = backend if isinstance(backend, str) else f"127.0.0.1:{backend}"
        super().__init__("gate", "127.0.0.1:0", backend, *options)
        self.certificate = self.says(r"--cacert (\S+)").group(1) if "tls" in options else None
        # Its log, which would fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def __exit__(self, *failure):
        super().__exit__(*failure)
        if self.certificate:
            Path(self.certificate).unlink(missing_ok=True)

    def connect(self):
        stream = connect(self.port)
        if self.certificate is None:
            return stream
        # Closing without `close_notify` is an error, as it should be.
        context = ssl.create_default_context(cafile=self.certificate)
        return context.wrap_socket(stream, server_hostname="localhost", suppress_ragged_eofs=False)


def run(*command, seconds=60, codes=(0,), **options):
    """The output of a program that has to end well."""
    options.setdefault("stdin", subprocess.DEVNULL)
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, **options)
    output = done.stdout.decode(errors="replace")
    assert done.returncode in codes, f"{command[0]} ended with {done.returncode}: {output[-500:]}"
    return output


def wait_until(done, what, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not there in time: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


# Sockets


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

    def __init__(self, serve, port=0):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=100)
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
    except ssl.SSLEOFError:
        return "cut"


# Redis


@contextlib.contextmanager
def redis_server():
    server, _ = need("redis-server", "redis-benchmark")
    port = free_port()
    with folder() as path:
        command = [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                   "--dir", path]
        with Program(command, port=port) as program:
            program.port = port
            yield program


def redis_command(stream, *words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    head = f"*{len(parts)}\r\n".encode()
    stream.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))


def line(stream):
    data = b""
    while not data.endswith(b"\r\n"):
        data += exactly(stream, 1)
    return data[:-2]


def large_values(gate):
    value = random.Random(1).randbytes(40 * MIB)
    with gate.connect() as stream:
        redis_command(stream, "SET", "large", value)
        assert line(stream) == b"+OK"
        redis_command(stream, "GET", "large")
        assert line(stream) == b"$%d" % len(value)
        assert exactly(stream, len(value)) == value, "the value is not what was set"


def redis():
    with redis_server() as server, Gate(server.port) as gate:
        output = run("redis-benchmark", "-p", gate.port, "-n", 5000, "-c", 50, "-d", 64, "-q", "-t",
                     "ping_inline,set,get,lpush")
        assert output.count("requests per second") == 4, output
        run("redis-benchmark", "-p", gate.port, "-n", 5000, "-c", 20, "-P", 16, "-d", 3000, "-q", "-t", "get,set")
        # A new connection for each request.
        run("redis-benchmark", "-p", gate.port, "-n", 1000, "-c", 20, "-k", 0, "-q", "-t", "get")
        large_values(gate)


def redis_behind_tls():
    with redis_server() as server, Gate(server.port, "tls") as gate:
        if "--tls" in run("redis-benchmark", "--help", codes=(0, 1)):
            run("redis-benchmark", "-h", "localhost", "-p", gate.port, "-n", 2000, "-c", 20, "-q", "-t", "get,set",
                "--tls", "--cacert", gate.certificate)
        large_values(gate)


def redis_that_stands_still():
    """A stopped process accepts in the kernel and says nothing; then it goes on."""
    with redis_server() as server, Gate(server.port) as gate:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with gate.connect() as stream:
                redis_command(stream, "PING")
                stream.settimeout(0.5)
                try:
                    raise AssertionError(f"an answer of a stopped server: {stream.recv(10)}")
                except TimeoutError:
                    pass
                server.process.send_signal(signal.SIGCONT)
                stream.settimeout(SECONDS)
                assert line(stream) == b"+PONG"
        finally:
            server.process.send_signal(signal.SIGCONT)


# PostgreSQL


def postgres_programs():
    """The folder of initdb and postgres, which Debian keeps out of the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if versions:
        return versions[-1].parent
    return Path(need("initdb")).parent


@contextlib.contextmanager
def postgres_server():
    programs = postgres_programs()
    # It refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    port = free_port()
    with folder() as path:
        data = path / "data"
        data.mkdir()
        if as_user:
            try:
                shutil.chown(data, "postgres")
            except LookupError:
                raise Missing("the user postgres") from None
        run(*as_user, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", cwd="/")
        command = [programs / "postgres", "-D", data, "-p", port, "-k", data, "-c", "listen_addresses=127.0.0.1",
                   "-c", "fsync=off", "-c", "max_connections=50"]
        # Through the wrapper a signal would reach a process that is not ours, so it becomes the server.
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if as_user else []
        # SIGINT closes the connections that are left.
        with Program([*as_user, *command], stop=signal.SIGINT, port=port, cwd="/") as program:
            program.port = port
            # It listens before it is ready.
            is_ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(is_ready).returncode == 0, "PostgreSQL")
            yield program


def psql(port, *arguments, **options):
    environment = {**os.environ, "PGCONNECT_TIMEOUT": "10"}
    where = ["-h", "127.0.0.1", "-p", port, "-U", "postgres", "-X", "-v", "ON_ERROR_STOP=1"]
    return run("psql", *where, *arguments, env=environment, **options)


def postgres():
    need("psql")
    pgbench = postgres_programs() / "pgbench"
    with postgres_server() as server, Gate(server.port) as gate:
        where = ["-h", "127.0.0.1", "-p", gate.port, "-U", "postgres", "-d", "postgres"]
        run(pgbench, *where, "-i", "-s", 1, "-q")
        output = run(pgbench, *where, "-c", 8, "-j", 2, "-t", 100, "-M", "prepared")
        assert "800/800" in output, output
        output = run(pgbench, *where, "-c", 4, "-t", 25, "-S", "-C")
        assert "100/100" in output, output
        postgres_copy(gate.port)
        postgres_cancel(gate.port)


def postgres_copy(port):
    """Rows in and out again; the server makes the same text of them."""
    with folder() as path:
        there, back = path / "there", path / "back"
        numbers = random.Random(2)
        with there.open("w") as rows:
            for number in range(200_000):
                rows.write(f"{number}\t{numbers.randbytes(40).hex()}\n")
        assert there.stat().st_size > 16 * MIB
        psql(port, "-c", "create table rows (number int, text text)", "-c", f"\\copy rows from {there}",
             "-c", f"\\copy (select * from rows order by number) to {back}")
        assert there.read_bytes() == back.read_bytes(), "the rows are not what was copied in"


def postgres_cancel(port):
    """Ctrl-C in psql sends a request to cancel, over a connection of its own."""
    command = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-X", "-c", "select pg_sleep(60)"]
    client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    try:
        wait_until(lambda: psql(port, "-Atc", asleep).strip() == "1", "the statement")
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=SECONDS)
    finally:
        client.kill()
        client.wait()
    assert "canceling statement due to user request" in errors, errors


# iperf3


def iperf3_test(program, port, options):
    """The bytes sent and received. A forwarder does not keep the order of connections, and iperf3 depends on it: its
    server pairs the streams of both directions by it, and rejects a test that begins before the last one has ended
    there. Such a test is repeated."""
    for attempt in range(5):
        report = json.loads(run(program, "-c", "127.0.0.1", "-p", port, "-J", *options, codes=(0, 1)))
        error, last = report.get("error"), attempt == 4
        if error:
            assert ("reset by peer" in error or "busy" in error) and not last, error
            time.sleep(0.2)
            continue
        sent, received = (report["end"][key]["bytes"] for key in ("sum_sent", "sum_received"))
        if received > 0 or "--bidir" not in options or last:
            return sent, received


def iperf3():
    program = need("iperf3")
    port = free_port()
    with Program([program, "-s", "-p", port, "-B", "127.0.0.1"]):
        # It serves one test at a time, so no connection may be made only to see that it listens.
        listens = f":{port:04X} 00000000:0000 0A"
        wait_until(lambda: listens in Path("/proc/net/tcp").read_text(), "iperf3")
        with Gate(port) as gate:
            before = gate.memory()
            for options in (["-n", "256M"], ["-R", "-n", "256M"], ["-P", "4", "-n", "256M"],
                            ["-P", "4", "-R", "-n", "256M"], ["--bidir", "-t", "1"]):
                sent, received = iperf3_test(program, gate.port, options)
                assert received > 16 * MIB, (options, received)
                if "-n" in options:
                    # What is on the way at the end of a test is not counted as received. For each stream, the
                    # system's buffers may hold some 40 MiB on both sides of the forwarder.
                    streams = 4 if "-P" in options else 1
                    assert received + streams * 40 * MIB > sent, (options, sent, received)
            grown = gate.memory() - before
            assert grown < 64 * MIB, f"it has grown by {grown} bytes"


# HTTP


def grpc():
    need_module("grpc")
    sys.path.insert(0, str(HERE))
    from grpc_client import check, check_end

    with Example("tonic", "127.0.0.1:0", "--plain") as server:
        with Gate(server.port) as gate:
            check(gate.port)
        with Gate(server.port, "tls", "alpn=h2") as gate:
            check(gate.port, gate.certificate)
        with Gate(server.port) as gate:
            check_end(gate.port, None, server.process.terminate)


def websockets():
    need_module("websockets")
    from websockets.sync.client import connect as open_websocket

    def exchange(client):
        for message in ("hello", b"bytes", "x" * 60_000, ""):
            client.send(message)
            assert client.recv(SECONDS) == message
        assert client.ping().wait(SECONDS)

    with Example("websocket") as server, Gate(server.port, "tls") as secure, Gate(server.port) as plain:
        context = ssl.create_default_context(cafile=secure.certificate)
        with open_websocket(f"wss://localhost:{secure.port}/", open_timeout=SECONDS, ssl=context) as client:
            exchange(client)
        with open_websocket(f"ws://127.0.0.1:{plain.port}/", open_timeout=SECONDS) as client:
            exchange(client)
            # The close frame of the server, and its reason, arrive.
            server.process.terminate()
            try:
                said = client.recv(SECONDS)
            except Exception as closed:  # the name of its type differs between versions
                said = closed.rcvd.code, closed.rcvd.reason
            assert said == (1001, "the server shuts down"), said


# HAProxy and nginx


def haproxy(path, port, frontend, service):
    program = need("haproxy")
    file = path / f"haproxy-{port}.cfg"
    file.write_text(f"""global
    maxconn 500
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen gate
    bind 127.0.0.1:{port}{frontend}
{service}
""")
    # SIGUSR1 would wait for connections.
    return Program([program, "-db", "-f", file], port=port)


def nginx(path, port, stream):
    program = need("nginx")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {module};" if module.exists() else ""
    file = path / f"nginx-{port}.conf"
    file.write_text(f"""{load}
daemon off;
master_process off;
pid {path}/nginx-{port}.pid;
error_log {path}/nginx-{port}.log error;
events {{ worker_connections 200; }}
stream {{
{stream}
}}
""")
    return Program([program, "-p", path, "-c", file, "-e", path / f"nginx-{port}.log"], port=port)


def get(stream, request=b"GET / HTTP/1.0\r\n\r\n"):
    """The body of the answer to a request by HTTP/1.0, and the address that this side has."""
    own = "{}:{}".format(*stream.getsockname())
    stream.sendall(request)
    head, _, body = everything(stream).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1"), head
    return body.decode().strip(), own


def proxies_in_front():
    """The client's address goes through HAProxy or nginx and the gate to an example that prints it.

    The gate reads the header and writes one of the other version, or forwards all without a look."""
    need("haproxy", "nginx")
    with folder() as path, Example("axum_behind_proxy") as server:
        for options in (["accept-proxy", "send-proxy-v2"], ["accept-proxy", "send-proxy-v1"], []):
            with Gate(server.port, *options) as gate:
                for sends in ("send-proxy", "send-proxy-v2"):
                    port = free_port()
                    service = f"    mode tcp\n    server gate 127.0.0.1:{gate.port} {sends}"
                    with haproxy(path, port, "", service):
                        body, own = get(connect(port))
                        assert body.startswith(f"hello, {own}, "), (options, sends, body, own)
                port = free_port()
                stream = f"server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{gate.port}; proxy_protocol on; }}"
                with nginx(path, port, stream):
                    body, own = get(connect(port))
                    assert body.startswith(f"hello, {own}, "), (options, "nginx", body, own)
        with Gate(server.port, "accept-proxy") as gate:
            assert ends(ask(gate.port, b"GET / HTTP/1.0\r\n\r\n")) in ("reset", "end"), "no header"


def ask(port, request):
    stream = connect(port)
    stream.sendall(request)
    return stream


def proxies_behind():
    """HAProxy and nginx behind the gate, by plain TCP and by TLS, log and answer the client's address."""
    need("haproxy", "nginx")
    with folder() as path:
        port, log = free_port(), path / "access.log"
        service = """    mode http
    log stdout format raw local0
    log-format "client %ci:%cp"
    http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port]\""""
        with haproxy(path, port, " accept-proxy", service) as program:
            own = list(client_addresses(port))
            wait_until(lambda: all(f"client {address}" in program.output() for address in own), "HAProxy's log")
        port = free_port()
        stream = f"""log_format client '$proxy_protocol_addr:$proxy_protocol_port';
    access_log {log} client;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        return "HTTP/1.0 200 OK\\r\\n\\r\\n$proxy_protocol_addr:$proxy_protocol_port";
    }}"""
        with nginx(path, port, stream):
            # It answers without a look at a request, and a request that it did not read would make it reset.
            own = list(client_addresses(port, request=b""))
            wait_until(lambda: all(address in log.read_text() for address in own), "nginx's log")


def client_addresses(port, **request):
    for options in (["send-proxy-v1"], ["send-proxy-v2"], ["send-proxy-v1", "tls"], ["send-proxy-v2", "tls"]):
        with Gate(port, *options) as gate:
            body, own = get(gate.connect(), **request)
            assert body == own, (options, body, own)
            yield own


# Ends: half-close, reset, truncation


def digest(stream):
    """Reads all, and only at the end answers with a hash of it."""
    hashed = hashlib.sha256()
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
    """A backend that stops reading stops the client before 16 MiB, and the gate's memory stays bounded."""
    go_on = threading.Event()

    def serve(stream):
        # Of the buffers between both ends, only those of the gate may grow.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        go_on.wait(60)
        digest(stream)

    for options in [], ["tls"]:
        go_on.clear()
        with Backend(serve) as backend, Gate(backend.port, *options) as gate:
            before = gate.memory()
            part, sent, hashed = random.Random(5).randbytes(64 * 1024), 0, hashlib.sha256()
            with gate.connect() as stream:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
                stream.settimeout(1)
                # send, because sendall would not say how much it sent.
                with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
                    while sent < 64 * MIB:
                        count = stream.send(part)
                        hashed.update(part[:count])
                        sent += count
                assert sent < 16 * MIB, f"{sent} bytes {options}"
                grown = gate.memory() - before
                assert grown < 8 * MIB, f"it has grown by {grown} bytes {options}"
                go_on.set()
                if options:
                    continue  # A TLS record that was sent in part cannot be taken back.
                stream.settimeout(SECONDS)
                stream.shutdown(socket.SHUT_WR)
                assert everything(stream).decode() == hashed.hexdigest()


# Backends that fail


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
            threading.Thread(target=gate.process.stdout.read, daemon=True).start()
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


@contextlib.contextmanager
def other_machine():
    """A network namespace, its network device, and the address that it has."""
    if os.getuid() != 0:
        raise Missing("the right to make a network namespace")
    ip = need("ip")
    name = f"gate{os.getpid() % 100_000}"
    there = f"{name}b"
    # 198.18.0.0/15 is for benchmarks of devices (RFC 2544).
    network = f"198.18.{os.getpid() % 250}"
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
        with Program(server, stdout=subprocess.PIPE, text=True) as program:
            port = program.process.stdout.readline().strip()
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


CHECKS = [redis, redis_behind_tls, redis_that_stands_still, postgres, iperf3, grpc, websockets, proxies_in_front,
          proxies_behind, half_close, half_close_of_the_backend, resets, resets_in_the_middle, back_pressure,
          ends_are_reported, pool_of_three, backend_refuses, backend_comes_back, silent_backends, backend_vanishes]


def main():
    # Also then everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    arguments, only = sys.argv[1:], []
    while "--only" in arguments:
        place = arguments.index("--only")
        only.append(arguments[place + 1])
        del arguments[place:place + 2]
    Example.folder = Path(arguments[0] if arguments else "target/debug/examples")
    checks = [check for check in CHECKS if not only or check.__name__ in only]
    passed, failed = 0, 0
    for check in checks:
        begun = time.monotonic()
        try:
            check()
            passed += 1
            print(f"ok: {check.__name__} in {time.monotonic() - begun:.1f} s", flush=True)
        except Missing as missing:
            print(f"skipped: {check.__name__} needs {missing}", flush=True)
        except Exception as error:  # each failure is told, and the others go on
            failed += 1
            took = time.monotonic() - begun
            print(f"FAILED: {check.__name__} after {took:.1f} s: {type(error).__name__}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not checks else 0)


if __name__ == "__main__":
    main()
