#!/usr/bin/env python3
"""Reloads, exchanges certificates of, upgrades and stops `portcullis` under load, and counts what is lost.

    python3 tests/program_load                 # about two minutes, with the debug binary
    python3 tests/program_load --full --bounds # a minute of each, until 100,000 connections were made

Clients connect without pause, each time anew, over TCP and TLS; `wrk` and `h2load` take part where they are
installed. The backend is nginx. A connection is lost if the client cannot connect, or does not get the whole answer.

Gaps are noticed by clients of their own, who pause for a millisecond. Two seconds with events follow two seconds without
any, again and again, so that the same clients also measure what the load and the machine alone make them wait. A gap is
what the longest wait during events has beyond that, in the median of these times. Where a bound on time is missed, the
measurement is repeated, at most twice: another program may delay this one, but not each time. The bounds of `--bounds`
are those that are promised; without it they are coarse ones, because a machine of CI is busy. Nothing may be lost in
any of them, and clients of each kind have to be served for each event.
"""

import argparse
import json
import multiprocessing
import pathlib
import shutil
import sys
import tempfile
import time

from bounds import Bounds
from clients import Clients, Gap, counted, external, ms
from gate import Backend, Gate
from live import live_reload
from stop import no_request_is_lost, the_deadline_is_exact

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROBE_PAUSE = 0.001
# Of events, and as long without any.
WINDOW = 2
# Of a kind of client, for each event.
SERVED = 5


def under_load(name, gate, seconds, pause, event, bounds, attempts=3):
    """Runs `event` again and again under load. Returns how many connections were made."""
    connections = 0
    for attempt in range(1, attempts + 1):
        load, probes, programs = Clients(gate, 4), Clients(gate, 1, pause=PROBE_PAUSE), external(gate, seconds)
        first, times, windows = time.monotonic(), [], []
        until = first + seconds - 1
        while time.monotonic() < until:
            time.sleep(WINDOW)
            begun = time.monotonic()
            while time.monotonic() < begun + WINDOW:
                started = time.monotonic()
                event(len(times) + 1)
                times.append(time.monotonic() - started)
                time.sleep(pause)
            windows.append((begun, time.monotonic()))
        # h2load ends when its time is over.
        outputs = [(it, process.communicate(timeout=120)[0]) for it, process in programs]
        (done, lost, _), (probed, lost_too, waits) = load.end(), probes.end()
        gap = Gap(waits, first, windows)
        report = {
            "connections": done + probed,
            "lost": lost | lost_too,
            "events": len(times),
            "longest event ms": ms(max(times)),
            **gap.report(),
        }
        for program, output in outputs:
            requests, failed = counted(program, output)
            report[program] = {"requests": requests, "failed": failed}
            connections += requests if program == "wrk" else 0
        print(f"{name}: {json.dumps(report)}", flush=True)
        assert not lost and not lost_too, f"{name}: {lost} {lost_too}"
        assert all(report[program]["failed"] == 0 for program, _ in outputs), f"{name}: {outputs}"
        # Nothing is lost of no connections, either.
        served = {"connections": done, "probes": probed} | {it: report[it]["requests"] for it, _ in outputs}
        few = {who: count for who, count in served.items() if count < SERVED * len(times)}
        assert times and not few, f"{name}: too few for {len(times)} events: {few}"
        connections += done + probed
        if gap.seconds < bounds.gap and max(times) < bounds.event:
            return connections
    raise AssertionError(f"{name}: beyond a bound in {attempts} attempts: {bounds}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/portcullis")
    parser.add_argument("--seconds", type=int, default=21, help="of load for each kind of event")
    parser.add_argument("--live", type=int, default=10_000, help="connections that are open at a reload")
    parser.add_argument("--bounds", action="store_true", help="of the exact bounds on times; for a quiet machine")
    parser.add_argument("--full", action="store_true", help="for a minute each, until 100,000 connections were made")
    arguments = parser.parse_args()
    # The default from Python 3.14 on cannot start a process with what is not at the top of a module.
    multiprocessing.set_start_method("fork")
    if not shutil.which("nginx") or not shutil.which("openssl"):
        print("nginx or openssl is not here: skipped")
        return
    for program in ("wrk", "h2load"):
        if not shutil.which(program):
            print(f"skipped: {program}", flush=True)
    bounds = Bounds.exact() if arguments.bounds else Bounds.coarse()
    Gate.binary = arguments.binary.resolve()
    if not Gate.binary.exists():
        sys.exit(f"{Gate.binary} is not there; build it with `cargo build -p portcullis-cli`")
    seconds, enough = (60, 100_000) if arguments.full else (arguments.seconds, 0)
    with tempfile.TemporaryDirectory(prefix="portcullis-load-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        backend = Backend(folder)
        gates = []
        try:
            gate = Gate(folder / "gate", backend)
            gates.append(gate)
            connections = 0
            while True:
                for kind, pause, event in (
                    ("reload", 0.25, gate.reload),
                    ("certificate", 1, lambda _: gate.exchange()),
                    ("upgrade", 1.5, lambda _: gate.upgrade()),
                ):
                    connections += under_load(kind, gate, seconds, pause, event, bounds)
                if connections >= enough:
                    break
            gate.end()
            no_request_is_lost(folder, backend)
            the_deadline_is_exact(folder, backend)
            live_reload(folder, backend, arguments.live, bounds)
        finally:
            for it in gates:
                it.end()
            backend.end()
    print(f"nothing was lost of {connections} connections during events, and of those at the shutdown")


if __name__ == "__main__":
    main()
