#!/usr/bin/env python3
"""Talks to each example with clients of other implementations: Python's sockets and TLS, netcat,
OpenSSL, curl, Python's websockets, gRPC's own client (`pip install grpcio`). Run it after
`cargo build --examples`; it takes the folder of the examples as argument
(target/debug/examples by default). What is not installed is skipped and named.

Nothing but loopback is used; each example ends on SIGTERM with exit code 0, or this fails."""

import importlib.util
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
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
        return int(self.says(r"127\.0\.0\.1:(\d+)").group(1))

    def says(self, pattern):
        """Waits for a line with this in it."""
        for line in self.process.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{self.name} did not say {pattern}")

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


def netcat(port, request=b"", *options):
    command = ["nc", *options, "127.0.0.1", str(port)]
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


def sni_router():
    with Example("sni_router") as server:
        certificates = set()
        for name, answer in [("here.example", b"terminated here\n"), ("there.example", b"passed through\n")]:
            stream = untrusting().wrap_socket(connect(server.port), server_hostname=name)
            with stream:
                certificates.add(stream.getpeercert(binary_form=True))
                assert stream.makefile("rb").read() == answer
                stream.unwrap()
        assert len(certificates) == 2
        try:
            untrusting().wrap_socket(connect(server.port), server_hostname="other.example")
            raise AssertionError("a name without a route was served")
        except ConnectionError:
            pass


def full_stack():
    with Example("full_stack") as server:
        def get(header=b"", version=ssl.TLSVersion.TLSv1_3):
            context = untrusting()
            context.maximum_version = version
            stream = connect(server.port)
            stream.sendall(header)
            with context.wrap_socket(stream) as stream:
                stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return everything(stream)
        assert re.search(rb"\r\n\r\nhello 127\.0\.0\.1:\d+\n$", get())
        # Through a load balancer, from an admitted network and from a denied one.
        proxied = b"PROXY TCP4 %s 127.0.0.1 4242 443\r\n"
        assert get(proxied % b"192.0.2.7").endswith(b"hello 192.0.2.7:4242\n")
        for refused in [{"header": proxied % b"203.0.113.9"}, {"version": ssl.TLSVersion.TLSv1_2}]:
            try:
                assert not get(**refused)
            except (ssl.SSLError, ConnectionError):
                pass
        with connect(server.port) as plain:
            plain.sendall(b"no TLS at all\r\n")
            assert plain.recv(2) == b"\x15\x03"  # an alert
        # One client has up to 20 connections, which begin a handshake here.
        streams = [connect(server.port) for _ in range(21)]
        for stream in streams:
            stream.sendall(b"\x16\x03\x01")
        [refused], _, _ = select.select(streams, [], [], SECONDS)
        assert refused.recv(1) == b""
        for stream in streams:
            stream.close()


def full_stack_with_curl():
    with Example("full_stack") as server:
        for option, client in [((), "127.0.0.1"), (("--haproxy-protocol",), "127.0.0.1")]:
            answer = curl("--insecure", *option, f"https://127.0.0.1:{server.port}/")
            assert answer.startswith(f"hello {client}:"), answer


def starttls():
    with Example("starttls") as server:
        chain = server.says(r"--client \S+ (\S+)").group(1)
        with connect(server.port) as stream:
            lines = stream.makefile("rb")
            assert lines.readline() == b"220 localhost ESMTP\r\n"
            for byte in b"MAIL x\r\nSTARTTLS\r\n":  # byte by byte
                stream.sendall(bytes([byte]))
            assert lines.readline().startswith(b"530 ")
            assert lines.readline().startswith(b"220 ")
            with trusting(chain).wrap_socket(stream, server_hostname="localhost") as private:
                private.sendall(b"hello\r\nSTARTTLS\r\nquit\r\n")
                answer = b"250 by TLSv1_3: hello\r\n250 by TLSv1_3: STARTTLS\r\n221 Bye\r\n"
                assert everything(private) == answer
                private.unwrap()
        # What follows the request for TLS in plain text is not answered.
        assert ask(server.port, b"STARTTLS\r\nNOOP\r\n") == b"220 localhost ESMTP\r\n220 Go ahead\r\n"
        command = [FOLDER / "starttls", "--client", f"127.0.0.1:{server.port}", chain]
        client = subprocess.run(command, capture_output=True, timeout=SECONDS)
        assert client.stdout == b"250 by TLSv1_3: Hello!\n", client
    assert not Path(chain).exists(), "it takes its certificate away"


def starttls_with_openssl():
    with Example("starttls") as server:
        chain = server.says(r"--client \S+ (\S+)").group(1)
        command = ["openssl", "s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile", chain,
                   "-starttls", "smtp", "-connect", f"127.0.0.1:{server.port}"]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"250 by TLSv1_3: hello\r\n"
        client.stdin.write(b"quit\n")  # QUIT would be a command of this client
        client.stdin.flush()
        assert client.stdout.read() == b"221 Bye\r\n"
        client.wait(SECONDS)


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
        assert netcat(server.port, b"hello", "-N") == b"hello"
    with Example("time_of_day") as server:
        assert netcat(server.port, b"ignored", "-N").endswith(b" UTC\n")


def custom_middleware():
    with Example("custom_middleware") as server:
        answer = ask(server.port, b"hello")
        assert re.fullmatch(rb"you are number \d+\nHELLO", answer), answer


def on_error():
    with Example("on_error") as server:
        assert ask(server.port, b"12 4\n") == b"3\n"
        assert ask(server.port, b"12 apples\n") == b"error: invalid digit found in string\n"
        assert ask(server.port, b"12\n") == b"error: two numbers, please\n"
        assert ask(server.port, b"12 0\n" + b"unread " * 1000) == b"internal error\n"


def refuse():
    with Example("refuse") as server:
        first, second = connect(server.port), connect(server.port)
        for stream in (first, second):
            stream.sendall(b"hello")
            assert stream.recv(5) == b"hello"
        assert ask(server.port, b"one more") == b"busy, try again later\n"
        second.shutdown(socket.SHUT_WR)
        assert everything(second) == b""
        # The permit is free a moment after the client has seen the end.
        answers = (ask(server.port, b"one more") for _ in range(100))
        assert b"one more" in answers
        first.close()


def graceful():
    with Example("graceful") as server:
        control = server.address()
        with connect(server.port) as stream:
            assert stream.recv(2) == b"0\n"
            assert b"stopping" in ask(control)
            assert everything(stream).endswith(b"the server shuts down\n")
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


def websocket():
    from websockets.sync.client import connect as open_websocket

    with Example("websocket") as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with open_websocket(url, open_timeout=SECONDS) as client:
            for message in ("hello", b"bytes", "x" * 60_000, ""):
                client.send(message)
                assert client.recv(SECONDS) == message
            assert client.ping().wait(SECONDS)
        with open_websocket(url, open_timeout=SECONDS) as client:
            client.send("still there?")
            assert client.recv(SECONDS) == "still there?"
            server.process.send_signal(signal.SIGTERM)
            try:
                said = client.recv(SECONDS)
            except Exception as closed:  # the name of its type differs between versions
                said = closed.rcvd.code, closed.rcvd.reason
            assert said == (1001, "the server shuts down"), said


def hyper_raw():
    with Example("hyper_raw") as server:
        with connect(server.port) as stream:
            # What follows the head belongs to the upgraded connection already.
            stream.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhe")
            stream.sendall(b"llo")
            stream.shutdown(socket.SHUT_WR)
            head, _, rest = everything(stream).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            assert rest == b"hello", rest


def hyper_raw_with_curl():
    with Example("hyper_raw") as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert re.fullmatch(r"Hello, 127\.0\.0\.1:\d+!\n", curl(url))
        version = ("--output", "/dev/null", "--write-out", "%{http_version} %{num_connects}\n")
        assert curl(*version, url, *version, url) == "1.1 1\n1.1 0\n"
        assert curl("--http1.1", "--data-binary", "some text", url) == "some text"
        features = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
        if "HTTP2" in features:
            assert curl("--http2-prior-knowledge", *version, url).startswith("2 ")
            large = "x" * 100_000
            assert curl("--http2-prior-knowledge", "--data-binary", large, url) == large


def http(stream, head="GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"):
    """The body of the answer to one request."""
    stream.sendall(head.encode())
    head, _, body = everything(stream).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return body.decode()


def curl(*arguments):
    """The answer, or the number of curl's error."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(SECONDS), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else done.returncode


def trusting(certificate):
    """A client of a server that made this certificate for itself."""
    return ssl.create_default_context(cafile=certificate)


def secure(port, context, name="localhost"):
    return context.wrap_socket(connect(port), server_hostname=name)


def axum_tls():
    with Example("axum_tls") as server:
        context = trusting(server.says(r"--cacert (\S+)").group(1))
        with secure(server.port, context) as stream:
            own = stream.getsockname()[1]
            assert http(stream) == f"hello, 127.0.0.1:{own}, by HTTP/1.1\n"
        context.set_alpn_protocols(["h2", "http/1.1"])
        with secure(server.port, context) as stream:
            assert stream.selected_alpn_protocol() == "h2"
        blog = trusting(server.says(r"--cacert (\S+) https://blog").group(1))
        with secure(server.port, blog, "blog.localhost") as stream:
            assert " of blog.localhost, by HTTP/1.1" in http(stream)
        context.set_alpn_protocols(["gopher"])
        try:
            secure(server.port, context).close()
            raise AssertionError("a protocol that nobody offered")
        except ssl.SSLError:
            pass


def axum_tls_with_curl():
    with Example("axum_tls") as server:
        trust = ["--cacert", server.says(r"--cacert (\S+)").group(1)]
        url = f"https://localhost:{server.port}/"
        assert curl(*trust, "--http1.1", url).endswith(" by HTTP/1.1\n")
        if "HTTP2" in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout:
            assert curl(*trust, "--http2", url).endswith(" by HTTP/2.0\n")
        else:
            print("skipped: this curl knows no HTTP/2")
        assert curl(url) == 60, "nobody signed it"


def axum_tls_replaces_its_certificate():
    """The new certificate and its key are written one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in ("old", "new"):
            subprocess.run(
                ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-days", "1", "-subj", f"/CN={name}",
                 "-addext", "subjectAltName=DNS:localhost",
                 "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
                check=True, capture_output=True)
        chain, key = folder / "chain.pem", folder / "key.pem"
        shutil.copy(folder / "old.pem", chain)
        shutil.copy(folder / "old.key", key)
        old, new = trusting(folder / "old.pem"), trusting(folder / "new.pem")
        with Example("axum_tls", "127.0.0.1:0", chain, key) as server:
            before = secure(server.port, old)
            chain.write_text("not a certificate")
            server.says("stays in use.*not.*PEM|stays in use.*has no certificate")
            # Two certificates, joined without a line end: half of them would be lost.
            both = (folder / "new.pem").read_text().rstrip() + (folder / "old.pem").read_text()
            chain.write_text(both)
            server.says(r"stays in use.*chain\.pem.*section 1, line \d+")
            shutil.copy(folder / "new.pem", chain)
            server.says("stays in use.*does not belong to the certificate")
            with secure(server.port, old) as stream:
                http(stream)
            shutil.copy(folder / "new.key", key)
            server.says("certificates were reloaded, 1 changed")
            with secure(server.port, new) as stream:
                http(stream)
            with before:  # It was there all the time.
                http(before)


def unanswered(port, request):
    """Whether the server turns away who says that, with a reset perhaps."""
    try:
        return ask(port, request.encode()) == b""
    except OSError as error:
        return not isinstance(error, TimeoutError)


def axum_behind_proxy():
    header = "PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n"
    request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with Example("axum_behind_proxy") as server:
        with connect(server.port) as stream:
            own = stream.getsockname()[1]
            answer = http(stream, header + request)
            assert answer == f"hello, 192.0.2.7:40000, by way of 127.0.0.1:{own}\n", answer
        with connect(server.port) as stream:  # byte by byte
            for byte in header.encode():
                stream.sendall(bytes([byte]))
            assert http(stream, request).startswith("hello, 192.0.2.7:40000, ")
        assert unanswered(server.port, request), "no header"
    with Example("axum_behind_proxy", "127.0.0.1:0", "192.0.2.0/24") as server:
        assert unanswered(server.port, header + request), "not a balancer"


def axum_behind_proxy_with_curl():
    with Example("axum_behind_proxy") as server:
        url = f"http://127.0.0.1:{server.port}/"
        told = re.fullmatch(r"hello, (\S+), by way of (\S+)\n", curl("--haproxy-protocol", url))
        assert told.group(1) == told.group(2), "curl tells its own address"


def axum_behind_proxy_with_netcat():
    request = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 80\r\nGET / HTTP/1.0\r\n\r\n"
    with Example("axum_behind_proxy") as server:
        answer = netcat(server.port, request)
        assert b"hello, [2001:db8::7]:40000, " in answer, answer


def axum_listener():
    with Example("axum_listener") as server:
        with connect(server.port) as silent, connect(server.port) as stream:
            own = stream.getsockname()[1]
            assert http(stream).startswith(f"hello, 127.0.0.1:{own}, ")
            silent.close()
        slow, idle = connect(server.port), connect(server.port)
        slow.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        idle.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert idle.recv(4096)
        server.process.send_signal(signal.SIGTERM)
        assert everything(idle) == b"", "idle connections close"
        assert everything(slow).endswith(b"patience pays\n"), "requests in flight are answered"
        # The first two may have been closing still when the server was stopped.
        assert 2 <= int(server.says(r"ended: (\d+) finished, 0 force-closed").group(1)) <= 4


def mtls_identity():
    with Example("mtls_identity") as server:
        ca, chain, key = server.says(r"--cacert (\S+) --cert (\S+) --key (\S+)").groups()
        context = trusting(ca)
        try:
            with secure(server.port, context) as stream:
                # In TLS 1.3 the client is done before the server has looked.
                assert http(stream) == "no certificate, no answer"
        except (ssl.SSLError, ConnectionResetError):
            pass
        context.load_cert_chain(chain, key)
        for name in ("localhost", "127.0.0.1"):
            with secure(server.port, context, name) as stream:
                assert http(stream) == "hello, spiffe://example.org/ada\n"
        with secure(server.port, context) as stream:
            stream.sendall(b"GET /admin HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert everything(stream).startswith(b"HTTP/1.1 403"), "only one may come here"


def mtls_identity_with_openssl():
    with Example("mtls_identity") as server:
        ca, chain, key = server.says(r"--cacert (\S+) --cert (\S+) --key (\S+)").groups()
        command = ["openssl", "s_client", "-quiet", "-no_ign_eof", "-verify_return_error",
                   "-CAfile", ca, "-connect", f"127.0.0.1:{server.port}"]

        def answer(*options):
            """What the server says until it closes: the end of input would be an end, too."""
            client = subprocess.Popen([*command, *options], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            try:
                client.stdin.write(b"GET / HTTP/1.0\r\n\r\n")
                client.stdin.flush()
            except BrokenPipeError:
                pass  # turned away already
            said = client.stdout.read()
            client.wait(SECONDS)
            return said

        assert answer("-cert", chain, "-key", key).endswith(b"hello, spiffe://example.org/ada\n")
        assert answer() == b""


def mtls_identity_with_curl():
    with Example("mtls_identity") as server:
        command = server.says(r"try: curl (.*)").group(1).split()
        assert curl(*command) == "hello, spiffe://example.org/ada\n"
        # 35 or 56 by version: the handshake failed, or what came after it.
        assert curl(*command[:2], command[-1]) in (35, 55, 56)


def tonic():
    from grpc_client import check, check_end
    with Example("tonic") as server:
        certificate = re.search(r"/\S+\.pem", server.process.stdout.readline()).group()
        check(server.port, certificate)
        check_end(server.port, certificate, server.process.terminate)
    assert not Path(certificate).exists(), "it takes its certificate away"
    with Example("tonic", "127.0.0.1:0", "--plain") as server:
        check(server.port)


CHECKS = [echo, time_of_day, tls_echo, starttls, sni_router, full_stack, custom_middleware, on_error, refuse, graceful, shutdown_port,
          thread_pool,
          line_echo, hello, charset, axum_tls, axum_behind_proxy, axum_listener, mtls_identity,
          hyper_raw]
WITH_PROGRAM = [("openssl", tls_echo_with_openssl), ("openssl", starttls_with_openssl), ("nc", echo_with_netcat),
                ("curl", full_stack_with_curl),
                ("curl", axum_tls_with_curl), ("openssl", axum_tls_replaces_its_certificate),
                ("curl", axum_behind_proxy_with_curl), ("nc", axum_behind_proxy_with_netcat),
                ("openssl", mtls_identity_with_openssl), ("curl", mtls_identity_with_curl),
                ("curl", hyper_raw_with_curl)]
WITH_MODULE = [("websockets", websocket), ("grpc", tonic)]


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
