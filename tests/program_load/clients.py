"""Clients in processes of their own, and the gaps that they notice."""

import multiprocessing
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import time

REQUEST = b"GET / HTTP/1.0\r\n\r\n"
ANSWER = b"hello from the backend\n"
# Waits that are shorter are of no interest.
NOTED = 0.010


def once(port, context):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        stream = context.wrap_socket(raw) if context else raw
        stream.sendall(REQUEST)
        answer = b""
        while part := stream.recv(4096):
            answer += part
        return answer.endswith(ANSWER)


def client(port, tls, stop, results, until_refused, pause):
    """Connects until `stop`, or until the first refusal that is expected. Without a pause it gives way to others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not pause:
        os.nice(10)
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    done, lost, waits = 0, {}, []
    while not stop.is_set():
        begun = time.monotonic()
        try:
            if once(port, context):
                done += 1
                took = time.monotonic() - begun
                if took > NOTED:
                    waits.append((begun, took))
                time.sleep(pause)
                continue
            error = "a part of the answer is missing"
        except ConnectionRefusedError as refused:
            if until_refused:
                break
            error = str(refused)
        except OSError as failed:
            error = str(failed)
        lost[error] = lost.get(error, 0) + 1
    results.put((done, lost, waits))


class Clients:
    """Some over TCP and some over TLS, who connect each time anew."""

    def __init__(self, gate, count, until_refused=False, pause=0.0):
        self.stop, self.results = multiprocessing.Event(), multiprocessing.Queue()
        ports = [(gate.port, False)] * count + [(gate.tls_port, True)] * max(1, count // 2)
        self.clients = [
            # As daemons, they end with this process if it fails.
            multiprocessing.Process(
                target=client, args=(port, tls, self.stop, self.results, until_refused, pause), daemon=True
            )
            for port, tls in ports
        ]
        for it in self.clients:
            it.start()

    def end(self):
        """How many were served, how many were not and why, and their waits."""
        self.stop.set()
        parts = [self.results.get(timeout=60) for _ in self.clients]
        for it in self.clients:
            it.join()
        lost = {}
        for _, errors, _ in parts:
            for error, count in errors.items():
                lost[error] = lost.get(error, 0) + count
        return sum(it[0] for it in parts), lost, [wait for it in parts for wait in it[2]]


class Gap:
    """What clients waited in windows of time with events, and in those between them.

    The longest waits of the windows are compared by their medians. A gap that comes with each event is in all of them,
    and a delay by another program is in few."""

    def __init__(self, waits, begun, windows):
        def longest(start, end, but=()):
            inside = (took for at, took in waits if at < end and start < at + took and (at, took) not in but)
            return max(inside, default=0.0)

        during = {wait for start, end in windows for wait in waits if wait[0] < end and start < wait[0] + wait[1]}
        between = zip([begun, *(end for _, end in windows)], [start for start, _ in windows])
        self.with_events = sorted(longest(*window) for window in windows)
        self.without = sorted(longest(*window, during) for window in between)
        self.seconds = statistics.median(self.with_events) - statistics.median(self.without)

    def report(self):
        return {
            name: {"median": ms(statistics.median(waits)), "longest": ms(max(waits))}
            for name, waits in (("wait ms", self.with_events), ("wait without events ms", self.without))
        }


def ms(seconds):
    return round(seconds * 1000, 1)


def external(gate, seconds):
    """wrk and h2load; h2load keeps its connections."""
    started = []
    if shutil.which("wrk"):
        # A request that takes longer is lost, as it is for the other clients.
        command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "--timeout", "20s", "-H", "connection: close"]
        command.append(f"http://127.0.0.1:{gate.port}/")
        started.append(("wrk", command))
    if shutil.which("h2load"):
        command = ["h2load", "-t1", "-c8", "-m4", f"-D{seconds}", f"https://127.0.0.1:{gate.h2_port}/"]
        started.append(("h2load", command))
    return [(name, subprocess.Popen(["nice", *command], stdout=subprocess.PIPE, text=True)) for name, command in started]


def counted(name, output):
    """Requests and failures as the program counts them."""
    if name == "wrk":
        requests = int(re.search(r"(\d+) requests in", output).group(1))
        errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        return requests, sum(map(int, errors.groups())) if errors else 0
    requests = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed", output)
    return int(requests.group(4)), int(requests.group(5))
