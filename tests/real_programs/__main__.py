#!/usr/bin/env python3
"""Sends real programs through the program `portcullis` with the files of `examples/config`, and through the examples
`gate` and `forward`: Redis, PostgreSQL, iperf3, gRPC, WebSockets, SSH, HAProxy and nginx on either side, netcat and
socat, and backends that fail.

    cargo build --examples --all-features && cargo build -p portcullis-cli
    python3 tests/real_programs [--only NAME] [FOLDER]

FOLDER has the program, target/debug by default, and in its folder `examples` the examples. What is not installed is
skipped and named; CI installs it first. Servers listen on free ports of loopback and keep their files in a temporary folder. Only
processes that were started here are ended. The checks of a vanished backend need root, for a network namespace, and one
of them waits for two minutes."""

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import applications
import configurations
import databases
import ends
import failures
import proxies
from portcullis import Portcullis
from processes import Example, Missing

CHECKS = [databases.redis, databases.redis_behind_tls, databases.redis_that_stands_still, databases.postgres,
          applications.iperf3, applications.grpc, applications.websockets, proxies.proxies_in_front,
          proxies.proxies_behind, ends.half_close, ends.half_close_of_the_backend, ends.resets,
          ends.resets_in_the_middle, ends.back_pressure, failures.ends_are_reported,
          failures.pool_of_three, failures.backend_refuses, failures.backend_comes_back,
          failures.silent_backends, failures.backend_vanishes, failures.backend_stays_away, *configurations.CHECKS]


# They wait for timeouts of the system, so the others run meanwhile.
WAITING = [failures.backend_stays_away]


def result(check):
    """Runs a check and prints what came of it. If it fails, the others go on."""
    begun = time.monotonic()
    word, why = "ok", ""
    try:
        check()
    except Missing as missing:
        word, why = "skipped", f": it needs {missing}"
    except Exception as error:
        word, why = "FAILED", f": {type(error).__name__}: {error}"
    print(f"{word}: {check.__name__} in {time.monotonic() - begun:.1f} s{why}", flush=True)
    return word


def main():
    # Also then everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("target/debug"))
    arguments = parser.parse_args()
    Example.folder, Portcullis.program = arguments.folder / "examples", arguments.folder / "portcullis"
    checks = [check for check in CHECKS if not arguments.only or check.__name__ in arguments.only]
    results = []
    with ThreadPoolExecutor(len(WAITING)) as beside:
        waiting = [beside.submit(result, check) for check in checks if check in WAITING]
        results += [result(check) for check in checks if check not in WAITING]
        results += [it.result() for it in waiting]
    passed, skipped, failed = (results.count(word) for word in ("ok", "skipped", "FAILED"))
    print(f"{passed} passed, {skipped} skipped, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
