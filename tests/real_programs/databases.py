"""Redis and PostgreSQL."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path

from processes import Gate, Missing, Program, folder, need, need_module, run, wait_until
from sockets import MIB, SECONDS, exactly, free_port


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


def redis_through(gate):
    output = run("redis-benchmark", "-p", gate.port, "-n", 5000, "-c", 50, "-d", 64, "-q", "-t",
                 "ping_inline,set,get,lpush")
    assert output.count("requests per second") == 4, output
    run("redis-benchmark", "-p", gate.port, "-n", 5000, "-c", 20, "-P", 16, "-d", 3000, "-q", "-t", "get,set")
    # A new connection for each request.
    run("redis-benchmark", "-p", gate.port, "-n", 1000, "-c", 20, "-k", 0, "-q", "-t", "get")
    large_values(gate)


def redis():
    with redis_server() as server, Gate(server.port) as gate:
        redis_through(gate)


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


def postgres_programs():
    """The folder of initdb and postgres, which Debian keeps out of the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if versions:
        return versions[-1].parent
    return Path(need("initdb")).parent


@contextlib.contextmanager
def postgres_server(addresses="127.0.0.1", identity=None):
    """It uses TLS with `identity`, the files of a certificate and its key."""
    programs = postgres_programs()
    # It refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    port = free_port()
    with folder() as path:
        data = path / "data"
        data.mkdir()

        def give(file):
            try:
                if as_user:
                    shutil.chown(file, "postgres")
            except LookupError:
                raise Missing("the user postgres") from None

        give(data)
        run(*as_user, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", cwd="/")
        command = [programs / "postgres", "-D", data, "-p", port, "-k", data, "-c", f"listen_addresses={addresses}",
                   "-c", "fsync=off", "-c", "max_connections=50"]
        if identity:
            # Where it looks for them.
            for source, name in zip(identity, ("server.crt", "server.key")):
                give(shutil.copy(source, data / name))
            (data / "server.key").chmod(0o600)
            command += ["-c", "ssl=on"]
        # Through the wrapper a signal would reach a process that is not ours, so it becomes the server.
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if as_user else []
        # SIGINT closes the connections that are left.
        with Program([*as_user, *command], stop=signal.SIGINT, port=port, cwd="/") as program:
            program.port = port
            # It listens before it is ready.
            is_ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(is_ready).returncode == 0, "PostgreSQL")
            yield program


def of_postgres(front):
    """The environment by which clients find the server or a gate in front of it."""
    variables = {"PGHOST": front.host, "PGHOSTADDR": "127.0.0.1", "PGPORT": str(front.port), "PGUSER": "postgres",
                 "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "10"}
    if front.certificate:
        variables |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(front.certificate)}
    return os.environ | variables


def psql(front, *arguments, **options):
    options.setdefault("env", of_postgres(front))
    return run("psql", "-X", "-v", "ON_ERROR_STOP=1", *arguments, **options)


def postgres():
    need("psql")
    with postgres_server() as server, Gate(server.port) as gate:
        postgres_through(gate)
        output = run(postgres_programs() / "pgbench", "-c", 4, "-t", 25, "-S", "-C", env=of_postgres(gate))
        assert "100/100" in output, output
        postgres_cancel(server, gate)


def postgres_through(gate):
    """Eleven connections."""
    pgbench, environment = postgres_programs() / "pgbench", of_postgres(gate)
    run(pgbench, "-i", "-s", 1, "-q", env=environment)
    output = run(pgbench, "-c", 8, "-j", 2, "-t", 100, "-M", "prepared", env=environment)
    assert "800/800" in output, output
    postgres_copy(gate)


def postgres_copy(gate):
    """Rows in and out again; the server makes the same text of them."""
    with folder() as path:
        there, back = path / "there", path / "back"
        numbers = random.Random(2)
        with there.open("w") as rows:
            for number in range(200_000):
                rows.write(f"{number}\t{numbers.randbytes(40).hex()}\n")
        assert there.stat().st_size > 16 * MIB
        psql(gate, "-c", "create table rows (number int, text text)", "-c", f"\\copy rows from {there}",
             "-c", f"\\copy (select * from rows order by number) to {back}")
        assert there.read_bytes() == back.read_bytes(), "the rows are not what was copied in"


def postgres_cancel(server, gate):
    """Ctrl-C in psql sends a request to cancel, over a connection of its own."""
    client = subprocess.Popen(["psql", "-X", "-c", "select pg_sleep(60)"], env=of_postgres(gate),
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: sleeps(server), "the statement")
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=SECONDS)
    finally:
        client.kill()
        client.wait()
    assert "canceling statement due to user request" in errors, errors


def postgres_cancel_over_tls(server, gate):
    """psql sends such a request without TLS. psycopg uses TLS for it, with the libpq that it brings."""
    need_module("psycopg")
    import psycopg

    place = {"host": gate.host, "hostaddr": "127.0.0.1", "port": gate.port, "user": "postgres",
             "sslmode": "verify-full", "sslrootcert": gate.certificate}
    if not psycopg.Capabilities().has_cancel_safe():
        raise Missing("libpq 17 in psycopg")
    with psycopg.connect(**place, autocommit=True) as client:
        errors = []

        def sleep():
            try:
                client.execute("select pg_sleep(60)")
            except psycopg.Error as error:
                errors.append(error)

        statement = threading.Thread(target=sleep)
        statement.start()
        wait_until(lambda: sleeps(server), "the statement")
        client.cancel_safe(timeout=SECONDS)
        statement.join(SECONDS)
        assert [type(error) for error in errors] == [psycopg.errors.QueryCanceled], errors


def sleeps(server):
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    return psql(server, "-Atc", asleep).strip() == "1"
