#!/usr/bin/env python3
"""Compares the static build of the program, linked with musl, with the one that is linked with glibc.

    cargo build --release -p portcullis-cli
    CC_x86_64_unknown_linux_musl=musl-gcc cargo build --release -p portcullis-cli --target x86_64-unknown-linux-musl
    python3 benches/static_build.py [GLIBC STATIC]

Both programs take turns in each round, so that the load of the machine is shared. Instructions are counted by
callgrind, as the difference of a long run and a short one. CPU time is that of all threads of the program by the
kernel's scheduler, and includes what the kernel does for it. Needs valgrind and openssl. Prints a table in Markdown."""

import argparse
import contextlib
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from monitoring import run  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

GATE = """\
version = 1
process.workers = {workers}
log = {{ access = "off", format = "json" }}
[[certificate]]
name = "local"
chain = "chain.pem"
key = "key.pem"
[[listener]]
name = "plain"
listen = "127.0.0.1:0"
backend = "echo"
[[listener]]
name = "tls"
listen = "127.0.0.1:0"
backend = "echo"
tls = {{ certificates = "local" }}
[[listener]]
name = "sink"
listen = "127.0.0.1:0"
backend = "sink"
tls = {{ certificates = "local" }}
[[backend]]
name = "echo"
servers = "127.0.0.1:{echo}"
health = "off"
[[backend]]
name = "sink"
servers = "127.0.0.1:{swallow}"
health = "off"
"""


# Backends


def backend(serve):
    """Serves each connection in a thread of its own; the port."""

    def accept(listener):
        while True:
            stream, _ = listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(stream,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    return listener.getsockname()[1]


def echo(stream):
    with stream, contextlib.suppress(OSError):
        while data := stream.recv(1 << 14):
            stream.sendall(data)


def swallow(stream):
    """Takes everything, then sends one byte."""
    buffer = bytearray(1 << 18)
    with stream, contextlib.suppress(OSError):
        while stream.recv_into(buffer):
            pass
        stream.sendall(b"x")


# The program


class Gate:
    """A running program."""

    def __init__(self, folder, command, workers):
        file = folder / "gate.toml"
        file.write_text(GATE.format(workers=workers, **BACKENDS))
        self.log = (folder / "log").open("w")
        begun = time.perf_counter()
        self.process = subprocess.Popen([*command, "run", "--config", file], stdout=self.log, stderr=self.log)
        while len(self.listening()) < 3:
            assert self.process.poll() is None, self.output()
            time.sleep(0.0005)
        self.start = time.perf_counter() - begun
        self.ports = {name: int(port) for port, name in self.listening()}

    def listening(self):
        return re.findall(r'"listening on 127\.0\.0\.1:(\d+)","listener":"(\w+)"', self.output())

    def cpu(self):
        """Seconds of all its threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def output(self):
        return Path(self.log.name).read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert code == 0, self.output()


# Loads: each takes a number of units


def connect(port, tls=False):
    stream = socket.create_connection(("127.0.0.1", port), timeout=60)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return TRUSTING.wrap_socket(stream) if tls else stream


def exchange(stream):
    stream.sendall(b"x" * 64)
    assert len(stream.recv(64)) == 64


def connections(gate, count, tls=False):
    for _ in range(count):
        with connect(gate.ports["tls" if tls else "plain"], tls) as stream:
            exchange(stream)


def handshakes(gate, count):
    connections(gate, count, tls=True)


def handshakes_at_once(gate, count):
    clients = [threading.Thread(target=handshakes, args=(gate, count // 16)) for _ in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def round_trips(gate, count):
    with connect(gate.ports["plain"]) as stream:
        for _ in range(count):
            exchange(stream)


def mebibytes(gate, count):
    """To the backend, over TLS."""
    data = bytes(1 << 20)
    with connect(gate.ports["sink"], tls=True) as stream:
        for _ in range(count):
            stream.sendall(data)


# Measurements


def instructions(program, folder, load, short, long):
    def counted(units):
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.out"]
        with Gate(folder, [*tool, program], workers=1) as gate:
            load(gate, units)
        return int(re.search(r"Collected : (\d+)", gate.output())[1])

    return (counted(long) - counted(short)) / (long - short)


def cpu(gate, load, count):
    load(gate, max(count // 10, 16))
    before = gate.cpu()
    load(gate, count)
    return (gate.cpu() - before) / count * 1e6


def start(program, folder):
    """The shortest of some starts, in seconds."""
    starts = []
    for _ in range(5):
        with Gate(folder, [program], workers=2) as gate:
            starts.append(gate.start)
    return min(starts)


def measure(program, folder):
    """By row of the table."""
    with Gate(folder, [program], workers=2) as gate:
        found = {
            "resident after the start: KiB": gate.memory(),
            "connection: CPU us": cpu(gate, connections, 1_000),
            "round trip: CPU us": cpu(gate, round_trips, 10_000),
            "TLS handshake, one client: CPU us": cpu(gate, handshakes, 200),
            "TLS handshake, 16 clients: CPU us": cpu(gate, handshakes_at_once, 320),
            "MiB received over TLS: CPU us": cpu(gate, mebibytes, 200),
        }
    found |= {
        "start, until it listens: ms": start(program, folder) * 1e3,
        "connection: instructions": instructions(program, folder, connections, 100, 500),
        "round trip: instructions": instructions(program, folder, round_trips, 100, 1_100),
        "TLS handshake: instructions": instructions(program, folder, handshakes, 10, 40),
        "MiB received over TLS: instructions": instructions(program, folder, mebibytes, 2, 10),
    }
    print(program, found, file=sys.stderr, flush=True)
    return found


def size(program, folder):
    stripped = folder / "stripped"
    run("strip", "-o", stripped, program)
    return {"file: KiB": program.stat().st_size / 1024, "file without symbols: KiB": stripped.stat().st_size / 1024}


def main():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glibc", nargs="?", type=Path, default=target / "release/portcullis")
    parser.add_argument("static", nargs="?", type=Path, default=target / "x86_64-unknown-linux-musl/release/portcullis")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    programs = [options.glibc.resolve(), options.static.resolve()]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "5",
            "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "chain.pem")
        rounds = [[], []]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            # In turns, and each of them first in half of the rounds.
            for which in ([0, 1] if number % 2 == 0 else [1, 0]):
                rounds[which].append(measure(programs[which], folder))
        sizes = [size(program, folder) for program in programs]
    print("| | glibc | static | ratio |\n|---|---|---|---|")
    for row in [*sizes[0], *rounds[0][0]]:
        values = [[sizes[which][row]] if row in sizes[which] else [it[row] for it in rounds[which]] for which in [0, 1]]
        one, other = map(statistics.median, values)
        digits = 1 if one < 100 else 0
        spread = "" if row in sizes[0] else f" ({min(values[1]) / one:.2f} to {max(values[1]) / one:.2f})"
        print(f"| {row} | {one:,.{digits}f} | {other:,.{digits}f} | x{other / one:.2f}{spread} |")


BACKENDS = {"echo": backend(echo), "swallow": backend(swallow)}
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE

if __name__ == "__main__":
    main()
