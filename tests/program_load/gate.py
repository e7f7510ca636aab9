"""The program, and nginx behind it."""

import signal
import socket
import subprocess
import sys
import threading
import time

from clients import ANSWER


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


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
    """The program with a configuration of its own, and those that replace it. `plain` has more keys of the listener of
    this name, and `extra` more tables."""

    binary = None

    def __init__(self, folder, backend, deadline="30s", plain="", extra="", server=None):
        folder.mkdir()
        self.folder, self.backend, self.plain = folder, backend, plain
        self.port, self.tls_port, self.h2_port = free_port(), free_port(), free_port()
        self.deadline, self.extra, self.server = deadline, extra, server or f"127.0.0.1:{backend.port}"
        self.file = folder / "gate.toml"
        self.certificate()
        self.write(0)
        self.lines, self.position, self.processes = [], 0, []
        try:
            self.start()
        except BaseException:
            self.end()
            raise

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
{self.plain}
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

    def expect(self, text, patience=60):
        """The time and the text of the first line with `text`, from those that came after the last expected one."""
        position = self.position
        until = time.monotonic() + patience
        while time.monotonic() < until:
            while position < len(self.lines):
                at, line = self.lines[position]
                position += 1
                if text in line:
                    self.position = position
                    return at, line
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
        return self.expect("was reloaded")[0] - begun

    def upgrade(self):
        self.position = len(self.lines)
        begun = time.monotonic()
        self.start()
        return time.monotonic() - begun

    def exchange(self):
        """Another certificate, which the program notices."""
        self.position = len(self.lines)
        self.certificate()
        self.expect("certificates were reloaded")

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
