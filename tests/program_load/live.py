"""A reload while many connections are open."""

import asyncio
import json
import multiprocessing
import resource
import statistics
import time

from clients import NOTED, Gap, ms
from gate import Gate, wait_for

# Descriptors for everything else.
OTHERS = 300
RELOADS = 9
PAUSE = 1.1


def at_most(count):
    """As many connections as descriptors allow, of which the gate needs two for each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + OTHERS
    if hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            hard = wanted
        except ValueError:
            count = (hard - OTHERS) // 2
            print(f"{hard} file descriptors are enough for {count} connections", flush=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    return count


async def echo(pipe):
    async def serve(reader, writer):
        try:
            while data := await reader.read(64):
                writer.write(data)
            writer.close()
        except (asyncio.CancelledError, OSError):
            pass  # the test is over

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def hold(pipe, port, count):
    """Opens the connections, then does what it is told: `talk` on some of them, `check` all of them."""
    streams = []

    async def ask(reader, writer):
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 60) == b"x"

    async def check():
        for begin in range(0, count, 200):
            await asyncio.gather(*(ask(*it) for it in streams[begin : begin + 200]))

    for begin in range(0, count, 200):
        few = range(begin, min(begin + 200, count))
        streams += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in few))
    await check()
    pipe.send("open")
    waits, told = [], None

    async def talk(reader, writer):
        while told == "talk":
            begun = time.monotonic()
            await ask(reader, writer)
            took = time.monotonic() - begun
            if took > NOTED:
                waits.append((begun, took))
            await asyncio.sleep(0.001)

    talking = []
    while (told := await asyncio.to_thread(pipe.recv)) != "end":
        if told == "talk":
            waits.clear()
            talking = [asyncio.create_task(talk(*it)) for it in streams[:4]]
        if told == "check":
            await asyncio.gather(*talking)
            await check()
        pipe.send(waits)


class Process:
    """A coroutine in a process of its own, which answers through a pipe."""

    def __init__(self, run, *arguments):
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=lambda: asyncio.run(run(other, *arguments)), daemon=True)
        self.process.start()
        other.close()

    def receive(self, patience=120):
        assert self.pipe.poll(patience), "no answer of another process"
        return self.pipe.recv()

    def ask(self, what):
        self.pipe.send(what)
        return self.receive()

    def end(self):
        self.process.kill()
        self.process.join()


class Live:
    """A gate with connections that stay open. All of them are judged again after each reload."""

    def __init__(self, folder, backend, count, port):
        plain = 'recheck = true\naccess = { allow = "127.0.0.0/8" }'
        self.gate = Gate(folder, backend, deadline="1s", plain=plain, server=f"127.0.0.1:{port}")
        self.reloads = 0
        self.clients = Process(hold, self.gate.port, count)

    def open(self):
        """Waits until all connections are open."""
        assert self.clients.receive() == "open"

    def reload(self):
        """Some reloads while clients talk, and a look at all connections: the time of each reload from the signal to the
        line in the log, and what clients waited."""
        self.clients.ask("talk")
        first, times, windows = time.monotonic(), [], []
        for _ in range(RELOADS):
            time.sleep(PAUSE)
            begun = time.monotonic()
            self.reloads += 1
            times.append(self.gate.reload(self.reloads))
            # Connections are judged again within a second.
            time.sleep(PAUSE)
            windows.append((begun, time.monotonic()))
        return times, Gap(self.clients.ask("check"), first, windows)

    def end(self):
        self.clients.end()
        self.gate.end()


def live_reload(folder, backend, count, bounds, attempts=3):
    """Reloads with `count` open connections and, on another gate, with ten of them."""
    count = at_most(count)
    server = Process(echo)
    running = [server]
    try:
        port = server.receive()
        wait_for(port)
        many = Live(folder / "many", backend, count, port)
        running.append(many)
        many.open()
        few = Live(folder / "few", backend, 10, port)
        running.append(few)
        few.open()
        for attempt in range(1, attempts + 1):
            control, _ = few.reload()
            times, gap = many.reload()
            report = {
                "reload ms": {"median": ms(statistics.median(times)), "longest": ms(max(times))},
                "with ten connections": {"median": ms(statistics.median(control)), "longest": ms(max(control))},
                **gap.report(),
            }
            print(f"{RELOADS} reloads with {count} live connections: {json.dumps(report)}", flush=True)
            # A machine that is busy with other things may delay one; a cost of the reload comes each time.
            if max(times) < bounds.live_reload and gap.seconds < bounds.gap:
                return
        raise AssertionError(f"reloads are too slow in {attempts} attempts")
    finally:
        for it in reversed(running):
            it.end()
