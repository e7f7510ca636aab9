#!/usr/bin/env python3
"""Talks to each example with clients of other implementations: Python's sockets and TLS, netcat,
OpenSSL, gRPC's own client (`pip install grpcio`). Run it after `cargo build --examples`; it takes the folder of the examples as argument
(target/debug/examples by default). What is not installed is skipped and named.

Nothing but loopback is used; each example ends on SIGTERM with exit code 0, or this fails."""

import importlib.util
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "target/debug/examples")
SECONDS = 10


class Example:
    """An example program, from its start to its clean end."""

    def __init__(self, name, *arguments):
        self.name = name
        self.process = subprocess.Popen(
            [FOLDER / name, *(arguments or ("127.0.0.1:0",))],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addresses = []

    def __enter__(self):
        try:
            self.port = self.address()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def address(self):
        """The port in the next line that names an address."""
        for line in self.process.stdout:
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found:
                return int(found.group(1))
        raise AssertionError(f"{self.name} printed no address")

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "killed"
        if kind is None:
            assert code == 0, f"{self.name} ended with {code}"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def everything(stream):
    parts = []
    while part := stream.recv(4096):
        parts.append(part)
    return b"".join(parts)


def ask(port, request=b""):
    """Sends a request, ends the write side, and reads all of the answer."""
    with connect(port) as stream:
        stream.sendall(request)
        stream.shutdown(socket.SHUT_WR)
        return everything(stream)


def netcat(port, request=b""):
    command = ["nc", "-N", "127.0.0.1", str(port)]
    return subprocess.run(command, input=request, capture_output=True, timeout=SECONDS).stdout


def untrusting():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def echo():
    with Example("echo") as server:
        assert ask(server.port, b"hello") == b"hello"
        with connect(server.port) as stream:  # byte by byte
            for byte in b"slowly":
                stream.sendall(bytes([byte]))
                assert stream.recv(1) == bytes([byte])
        assert ask(server.port, b"x" * 100_000) == b"x" * 100_000


def time_of_day():
    with Example("time_of_day") as server:
        line = ask(server.port, b"input that nobody reads\n" * 100)
        assert re.fullmatch(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", line), line


def tls_echo():
    with Example("tls_echo") as server:
        with untrusting().wrap_socket(connect(server.port)) as stream:
            assert stream.version() == "TLSv1.3"
            stream.sendall(b"hello")
            assert stream.recv(5) == b"hello"
            # close_notify in both directions: Python raises where the other side cuts off.
            stream.unwrap()
        old = untrusting()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with old.wrap_socket(connect(server.port)) as stream:
            assert stream.version() == "TLSv1.2"
        alert = ask(server.port, b"no TLS at all\r\n")
        assert alert[:2] == b"\x15\x03", alert


def tls_echo_with_openssl():
    with Example("tls_echo") as server:
        command = ["openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", f"127.0.0.1:{server.port}"]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"hello\n"
        client.stdin.close()
        client.wait(SECONDS)


def echo_with_netcat():
    with Example("echo") as server:
        assert netcat(server.port, b"hello") == b"hello"
    with Example("time_of_day") as server:
        assert netcat(server.port, b"ignored").endswith(b" UTC\n")


def custom_middleware():
    with Example("custom_middleware") as server:
        answer = ask(server.port, b"hello")
        assert re.fullmatch(rb"you are number \d+\nHELLO", answer), answer


def graceful():
    with Example("graceful") as server:
        control = server.address()
        with connect(server.port) as stream:
            assert stream.recv(2) == b"0\n"
            assert b"stopping" in ask(control)
            assert everything(stream).endswith(b"good-bye\n")
        server.process.wait(SECONDS)


def shutdown_port():
    with Example("shutdown_port") as server:
        control = server.address()
        assert ask(server.port, b"one\ntwo\n") == b"one\ntwo\n"
        assert ask(control, b"now!\n") == b"you did not say please\n"
        assert ask(server.port, b"still here\n") == b"still here\n"
        assert ask(control, b"please\n") == b"stopping\n"
        server.process.wait(SECONDS)


def thread_pool():
    with Example("thread_pool", "127.0.0.1:0", "3") as server:
        streams = [connect(server.port) for _ in range(6)]
        threads = sorted(stream.makefile("rb").readline() for stream in streams)
        assert all(threads.count(thread) == 2 for thread in threads), threads
        for stream in streams:
            stream.close()


def line_echo():
    with Example("line_echo") as server:
        assert ask(server.port, b"one\r\ntwo\n") == b"one\ntwo\n"
        command = [FOLDER / "line_echo", "--client", f"127.0.0.1:{server.port}", "hello", "world"]
        client = subprocess.run(command, capture_output=True, timeout=SECONDS)
        assert client.stdout == b"hello\nworld\n", client


def hello():
    with Example("hello", "server", "127.0.0.1:0") as server:
        with connect(server.port) as stream:
            assert stream.recv(100) == b"Hello!\n"
            stream.sendall(b"Good Bye!\n")
            assert everything(stream) == b""
        command = [FOLDER / "hello", "client", f"127.0.0.1:{server.port}"]
        client = subprocess.run(command, capture_output=True, timeout=SECONDS)
        assert b"Hello!" in client.stdout, client
        for _ in range(2):
            assert server.process.stdout.readline().endswith("says: Good Bye!\n")


def charset():
    with Example("charset") as server:
        assert ask(server.port, "Grüße\n".encode("latin-1")) == "GRÜSSE\n".encode("latin-1")


def tonic():
    from grpc_client import check, check_end
    with Example("tonic") as server:
        certificate = re.search(r"/\S+\.pem", server.process.stdout.readline()).group()
        check(server.port, certificate)
        check_end(server.port, certificate, server.process.terminate)
    assert not Path(certificate).exists(), "it takes its certificate away"
    with Example("tonic", "127.0.0.1:0", "--plain") as server:
        check(server.port)


CHECKS = [echo, time_of_day, tls_echo, custom_middleware, graceful, shutdown_port, thread_pool,
          line_echo, hello, charset]
WITH_PROGRAM = [("openssl", tls_echo_with_openssl), ("nc", echo_with_netcat)]
WITH_MODULE = [("grpc", tonic)]


def main():
    checks = list(CHECKS)
    for program, check in WITH_PROGRAM:
        if shutil.which(program):
            checks.append(check)
        else:
            print(f"skipped: {check.__name__} needs {program}")
    for module, check in WITH_MODULE:
        if importlib.util.find_spec(module):
            checks.append(check)
        else:
            print(f"skipped: {check.__name__} needs the Python module {module}")
    failed = 0
    for check in checks:
        begun = time.monotonic()
        try:
            check()
            print(f"ok: {check.__name__} in {time.monotonic() - begun:.1f} s")
        except Exception as error:  # each failure is told, and the others go on
            failed += 1
            print(f"FAILED: {check.__name__}: {type(error).__name__}: {error}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
