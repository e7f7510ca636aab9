#!/usr/bin/env python3
"""Reloads, exchanges certificates of, upgrades and stops `portcullis` under load, and counts what is lost.

    python3 tests/program_load.py                        # about a minute, with the debug binary
    python3 tests/program_load.py --binary target/release/portcullis --seconds 30 --live 10000

Clients connect without pause, each time anew, over TCP and TLS; `wrk` and `h2load` take part where they are
installed. The backend is nginx. A connection is lost if the client cannot connect, or does not get the whole answer. The
largest gap is the longest time that one client waited for an answer, beside that of the same load without events.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
ANSWER = b"hello from the backend\n"


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


# Clients


def once(port, context):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        stream = context.wrap_socket(raw) if context else raw
        stream.sendall(REQUEST)
        answer = b""
        while part := stream.recv(4096):
            answer += part
        return answer.endswith(ANSWER)


def client(port, tls, stop, results, until_refused):
    """Connects without pause until `stop`, or until the first refusal that is expected."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    done, lost, gap = 0, {}, 0.0
    while not stop.is_set():
        begun = time.monotonic()
        try:
            if once(port, context):
                done += 1
                gap = max(gap, time.monotonic() - begun)
                continue
            error = "a part of the answer is missing"
        except ConnectionRefusedError as refused:
            if until_refused:
                break
            error = str(refused)
        except OSError as failed:
            error = str(failed)
        lost[error] = lost.get(error, 0) + 1
    results.put((done, lost, gap))


class Load:
    """Clients in processes of their own."""

    def __init__(self, port, tls_port=None, count=4, until_refused=False):
        self.stop, self.results = multiprocessing.Event(), multiprocessing.Queue()
        ports = [(port, False)] * count + ([(tls_port, True)] * max(1, count // 2) if tls_port else [])
        self.clients = [
            multiprocessing.Process(target=client, args=(port, tls, self.stop, self.results, until_refused))
            for port, tls in ports
        ]
        for it in self.clients:
            it.start()

    def end(self):
        self.stop.set()
        parts = [self.results.get(timeout=60) for _ in self.clients]
        for it in self.clients:
            it.join()
        lost = {}
        for _, errors, _ in parts:
            for error, count in errors.items():
                lost[error] = lost.get(error, 0) + count
        return sum(it[0] for it in parts), lost, max(it[2] for it in parts)


# Servers


class Backend:
    """nginx: one port for HTTP/1 that closes each connection, one for HTTP/2 without TLS."""

    def __init__(self, folder):
        self.port, self.h2_port = free_port(), free_port()
        answer = 'return 200 "%s";' % ANSWER.decode().replace("\n", "\\n")
        (folder / "nginx.conf").write_text(
            f"""daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
            events {{ worker_connections 8192; }}
            http {{ access_log off; keepalive_timeout 0; server {{ listen 127.0.0.1:{self.port} backlog=8192; location / {{ {answer} }} }}
            server {{ listen 127.0.0.1:{self.h2_port} http2; keepalive_timeout 60s; keepalive_requests 1000000000; location / {{ {answer} }} }} }}"""
        )
        self.process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        wait_for(self.port)

    def end(self):
        self.process.terminate()
        self.process.wait()


def wait_for(port):
    for _ in range(2000):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"nothing listens on port {port}")


class Gate:
    def __init__(self, binary, folder, backend, deadline="30s", extra="", server=None):
        self.binary, self.folder, self.backend = binary, folder, backend
        self.port, self.tls_port, self.h2_port = free_port(), free_port(), free_port()
        self.deadline, self.extra, self.server = deadline, extra, server or f"127.0.0.1:{backend.port}"
        self.file = folder / "gate.toml"
        self.certificate()
        self.write(0)
        self.lines, self.processes = [], []
        self.start()

    def write(self, number):
        """The configuration; each number makes another one."""
        text = f"""version = 1
[process]
upgrade-socket = "upgrade.socket"
[drain]
deadline = "{self.deadline}"
[log]
access = "off"
[defaults]
limits.connections = {15_000 + number % 100}
[[listener]]
name = "plain"
listen = "127.0.0.1:{self.port}"
backend = "web"
[[listener]]
name = "tls"
listen = "127.0.0.1:{self.tls_port}"
backend = "web"
tls = {{ certificates = "cert" }}
[[listener]]
name = "h2"
listen = "127.0.0.1:{self.h2_port}"
backend = "h2"
tls = {{ certificates = "cert", alpn = "h2" }}
[[certificate]]
name = "cert"
chain = "chain.pem"
key = "key.pem"
[[backend]]
name = "web"
server = [{{ address = "{self.server}", weight = {1 + number % 100} }}]
[[backend]]
name = "h2"
servers = "127.0.0.1:{self.backend.h2_port}"
"""
        new = self.folder / "gate.toml.new"
        new.write_text(text + self.extra)
        new.rename(self.file)

    def certificate(self):
        """Exchanges the key first, then the chain, as some tools do."""
        names = [self.folder / "new-key.pem", self.folder / "new-chain.pem"]
        subprocess.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=a.test".split()
            + ["-addext", "subjectAltName=DNS:a.test", "-keyout", names[0], "-out", names[1]],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        names[0].rename(self.folder / "key.pem")
        names[1].rename(self.folder / "chain.pem")

    def start(self):
        process = subprocess.Popen(
            [self.binary, "run", "--config", self.file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.processes.append(process)
        threading.Thread(target=self.read, args=(process,), daemon=True).start()
        self.expect("ready for an upgrade")

    def read(self, process):
        for line in process.stdout:
            self.lines.append((time.monotonic(), line))

    def expect(self, text, since=None, patience=60):
        """The time of the first line with `text`, from those that came after the last expected one."""
        position = getattr(self, "position", 0) if since is None else since
        until = time.monotonic() + patience
        while time.monotonic() < until:
            while position < len(self.lines):
                at, line = self.lines[position]
                position += 1
                if text in line:
                    self.position = position
                    return at
            time.sleep(0.002)
        tail = "".join(line for _, line in self.lines[-20:])
        sys.exit(f"no line with {text!r} within {patience} s; the last ones:\n{tail}")

    @property
    def process(self):
        return self.processes[-1]

    def reload(self, number):
        self.write(number)
        self.position = len(self.lines)
        begun = time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        return self.expect("was reloaded") - begun

    def upgrade(self):
        self.position = len(self.lines)
        begun = time.monotonic()
        self.start()
        return time.monotonic() - begun

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


# Scenarios


def external(gate, seconds):
    """wrk and h2load beside our clients; h2load keeps its connections."""
    started = []
    if shutil.which("wrk"):
        command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "-H", "connection: close", f"http://127.0.0.1:{gate.port}/"]
        started.append(("wrk", subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
    if shutil.which("h2load"):
        command = ["h2load", "-t1", "-c8", "-m4", f"-D{seconds}", f"https://127.0.0.1:{gate.h2_port}/"]
        started.append(("h2load", subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
    return started


def counted(name, output):
    """Requests and failures as the program counts them."""
    if name == "wrk":
        requests = int(re.search(r"(\d+) requests in", output).group(1))
        errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        return requests, sum(map(int, errors.groups())) if errors else 0
    requests = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed", output)
    return int(requests.group(4)), int(requests.group(5))


def under_load(name, gate, seconds, pause, event):
    """Runs `event` again and again under load."""
    load, programs = Load(gate.port, gate.tls_port), external(gate, seconds)
    until, times = time.monotonic() + seconds - 1, []
    while time.monotonic() < until:
        time.sleep(pause)
        if event:
            times.append(event(len(times) + 1) or 0)
    # h2load ends when its time is over.
    outputs = [(it, process.communicate(timeout=120)[0]) for it, process in programs]
    done, lost, gap = load.end()
    report = {"connections": done, "lost": lost, "largest gap ms": round(gap * 1000, 1), "events": len(times)}
    if times and max(times) > 0:
        report["longest event ms"] = round(max(times) * 1000, 1)
    for program, output in outputs:
        requests, failed = counted(program, output)
        report[program] = {"requests": requests, "failed": failed}
    print(f"{name}: {json.dumps(report)}", flush=True)
    assert not lost, f"{name}: {lost}"
    assert all(report[program]["failed"] == 0 for program, _ in outputs), name
    return report


def exchange(gate):
    def event(number):
        gate.position = len(gate.lines)
        gate.certificate()
        gate.expect("certificates were reloaded")

    return event


def stop_under_load(binary, folder, backend):
    """SIGTERM: whatever was accepted is answered, and the exit code is 0."""
    gate = Gate(binary, folder, backend)
    load = Load(gate.port, gate.tls_port, count=6, until_refused=True)
    time.sleep(2)
    begun = time.monotonic()
    gate.process.send_signal(signal.SIGTERM)
    code = gate.process.wait(timeout=60)
    took = time.monotonic() - begun
    done, lost, _ = load.end()
    print(f"SIGTERM under load: {json.dumps({'connections': done, 'lost': lost, 'took ms': round(took * 1000)})}")
    assert code == 0 and not lost, (code, lost)


def exact_deadline(binary, folder, backend):
    """A connection that stays is cut at the deadline, and the exit code says so."""
    gate = Gate(binary, folder, backend, deadline="2s", server=f"127.0.0.1:{backend.h2_port}")
    idle = socket.create_connection(("127.0.0.1", gate.port))
    time.sleep(0.5)
    begun = time.monotonic()
    gate.process.send_signal(signal.SIGTERM)
    code = gate.process.wait(timeout=60)
    took = time.monotonic() - begun
    idle.close()
    print(f"deadline of 2 s: exit code {code} after {took:.3f} s")
    assert code == 3 and 2 <= took < 2.6, (code, took)


def live_reload(binary, folder, backend, count):
    """A reload while `count` connections are open, each of which works afterwards."""
    own = 600  # file descriptors for everything else
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        hard = max(hard, 2 * count + own)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except ValueError:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = min(count, (hard - own) // 2)

    async def echo(reader, writer):
        try:
            while data := await reader.read(64):
                writer.write(data)
            writer.close()
        except (asyncio.CancelledError, OSError):
            pass  # the test is over

    async def run():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        gate = await asyncio.to_thread(Gate, binary, folder, backend, "1s", "", f"127.0.0.1:{port}")
        streams = []
        for begin in range(0, count, 200):
            few = range(begin, min(begin + 200, count))
            streams += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", gate.port) for _ in few))

        async def ask(reader, writer):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 30) == b"x"

        for begin in range(0, count, 200):
            await asyncio.gather(*(ask(*it) for it in streams[begin : begin + 200]))
        longest_gap, done = 0.0, False

        async def talk(reader, writer):
            nonlocal longest_gap
            while not done:
                begun = time.monotonic()
                await ask(reader, writer)
                longest_gap = max(longest_gap, time.monotonic() - begun)

        talking = [asyncio.create_task(talk(*it)) for it in streams[:4]]
        await asyncio.sleep(1)
        before, longest_gap = longest_gap, 0.0
        times = [await asyncio.to_thread(gate.reload, number) for number in range(1, 6)]
        done = True
        await asyncio.gather(*talking)
        for begin in range(0, count, 200):
            await asyncio.gather(*(ask(*it) for it in streams[begin : begin + 200]))
        for _, writer in streams:
            writer.close()
        gate.end()
        server.close()
        return times, before, longest_gap

    times, before, gap = asyncio.run(run())
    report = {
        "reload ms": [round(it * 1000, 1) for it in times],
        "largest gap ms": round(gap * 1000, 1),
        "without reloads": round(before * 1000, 1),
    }
    print(f"reload with {count} live connections: {json.dumps(report)}", flush=True)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/portcullis")
    parser.add_argument("--seconds", type=int, default=6, help="of load for each kind of event")
    parser.add_argument("--live", type=int, default=500, help="connections that are open at a reload")
    arguments = parser.parse_args()
    if not shutil.which("nginx") or not shutil.which("openssl"):
        print("nginx or openssl is not here: skipped")
        return
    binary, seconds = arguments.binary.resolve(), arguments.seconds
    if not binary.exists():
        sys.exit(f"{binary} is not there; build it with `cargo build -p portcullis-cli`")
    with tempfile.TemporaryDirectory(prefix="portcullis-load-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        backend = Backend(folder)
        gates = []
        try:
            gate = Gate(binary, folder, backend)
            gates.append(gate)
            under_load("no event", gate, seconds, 1, None)
            under_load("reload", gate, seconds, 0.25, gate.reload)
            under_load("certificate", gate, seconds, 1, exchange(gate))
            under_load("upgrade", gate, seconds, 1.5, lambda _: gate.upgrade())
            gate.end()
            stop_under_load(binary, folder, backend)
            exact_deadline(binary, folder, backend)
            longest = live_reload(binary, folder, backend, arguments.live)
            assert longest < 0.1, f"a reload takes {longest * 1000:.0f} ms"
        finally:
            for gate in gates:
                gate.end()
            backend.end()
    print("nothing was lost")


if __name__ == "__main__":
    main()
