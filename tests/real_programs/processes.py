"""Programs in the background: those that are installed, the examples, and the example `gate`."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from sockets import SECONDS, connect


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


class Program:
    """A program in the background. It is ended by a signal, and killed if it does not end."""

    # Clients of a server use TLS if there is a certificate that they shall trust, for this name.
    host, certificate = "localhost", None

    def __init__(self, command, stop=signal.SIGTERM, port=None, codes=None, **options):
        self.command = [str(word) for word in command]
        self.stop, self.codes = stop, codes
        # Appending, so that reading does not change where the program writes.
        self.log = tempfile.TemporaryFile("ab+")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, **options)
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
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def says(self, pattern):
        """Waits until this is in its output."""
        deadline = time.monotonic() + SECONDS
        while True:
            has_ended = self.process.poll() is not None
            if found := re.search(pattern, self.output()):
                return found
            if has_ended or time.monotonic() > deadline:
                raise AssertionError(f"{self.command[0]} did not say {pattern}: {self.output()[-500:]}")
            time.sleep(0.02)

    def memory(self):
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status).group(1)) * 1024

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


class Front(Program):
    """A program of this repository, which prints its address and ends well on SIGTERM."""

    def __init__(self, command):
        super().__init__(command, codes=[0])
        try:
            self.port = int(self.says(r"listening on 127\.0\.0\.1:(\d+)").group(1))
        except BaseException:
            self.end()
            raise

    def connect(self, host=None, port=None):
        stream = connect(port or self.port)
        if self.certificate is None:
            return stream
        # Closing without `close_notify` is an error, as it should be.
        return self.trust().wrap_socket(stream, server_hostname=host or self.host, suppress_ragged_eofs=False)

    def trust(self):
        """For a client that trusts its certificate alone."""
        context = ssl.create_default_context(cafile=self.certificate)
        # Some versions of Python set it.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        return context


class Example(Front):
    """An example of this repository."""

    folder = None

    def __init__(self, name, *arguments):
        super().__init__([self.folder / name, *arguments])


class Gate(Example):
    """The example `gate`, in front of a port of this machine or another address."""

    def __init__(self, backend, *options):
        backend = backend if isinstance(backend, str) else f"127.0.0.1:{backend}"
        super().__init__("gate", "127.0.0.1:0", backend, *options)
        if "tls" in options:
            self.certificate = self.says(r"--cacert (\S+)").group(1)

    def __exit__(self, *failure):
        super().__exit__(*failure)
        if self.certificate:
            Path(self.certificate).unlink(missing_ok=True)


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
