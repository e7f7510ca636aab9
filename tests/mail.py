#!/usr/bin/env python3
"""Sends Python's mail clients, and the XMPP client of openssl, through the program, which ends or requests STARTTLS.

    cargo build -p portcullis-cli
    python3 tests/mail.py [PROGRAM]

PROGRAM is target/debug/portcullis by default. It needs `openssl`, and ends with a note without it. For SMTP, IMAP and
POP3, a client without TLS, one whose TLS begins immediately and one with STARTTLS reach a plain server and one with
STARTTLS. Bytes that someone adds behind STARTTLS, on either side, end the connection, and a server that refuses in its
greeting is followed by the next one. `examples/config/mail.toml` is in front of two SMTP servers. All ports are free
ones of loopback, and only processes that were started here are ended."""

import contextlib
import imaplib
import poplib
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 30
PROTOCOLS = ["smtp", "imap", "pop3"]

LISTENER = """
[[listener]]
name = "{kind}-{protocol}-{server}"
listen = "127.0.0.1:0"
backend = "{protocol}-{server}"
{keys}
"""
BACKEND = """
[[backend]]
name = "{protocol}-{server}"
servers = "127.0.0.1:{port}"
health = "off"
{keys}
"""
TLS = 'tls = {{ name = "mail.example", roots = "chain.pem", prelude = "{protocol}" }}'


class Server:
    """Enough of a mail server. With a context, it offers STARTTLS and takes nothing else in plain text."""

    def __init__(self, protocol, context=None):
        self.protocol, self.context = protocol, context
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        connection.settimeout(SECONDS)
        with contextlib.suppress(OSError), connection:
            offered = self.context is not None
            connection.sendall(getattr(self, self.protocol + "_greeting")(offered))
            lines = connection.makefile("rb")
            while line := lines.readline().decode().strip():
                self.seen.append((line, isinstance(connection, ssl.SSLSocket)))
                if offered and re.fullmatch(r"STARTTLS|STLS|\w+ STARTTLS", line):
                    ready = {"smtp": "220 go", "imap": f"{line.split()[0]} OK go", "pop3": "+OK go"}
                    connection.sendall(ready[self.protocol].encode() + b"\r\n")
                    connection = self.context.wrap_socket(connection, server_side=True)
                    lines, offered = connection.makefile("rb"), False
                    continue
                connection.sendall(getattr(self, self.protocol)(line, lines, offered))

    def smtp_greeting(self, _):
        return b"220-internal.example ESMTP\r\n220 at your service\r\n"

    def smtp(self, line, lines, offered):
        command = line.split(":")[0].split()[0].upper()
        if command == "EHLO":
            return b"250-internal.example\r\n250 STARTTLS\r\n" if offered else b"250-internal.example\r\n250 SIZE 1000\r\n"
        if offered:
            return b"530 start TLS first\r\n"
        if command == "DATA":
            # The client waits for this answer before it sends the text.
            self.data = True
            return b"354 go on\r\n"
        if getattr(self, "data", False) and line != ".":
            return b""
        self.data = False
        return b"221 bye\r\n" if command == "QUIT" else b"250 fine\r\n"

    def imap_greeting(self, offered):
        return b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hello\r\n" if offered else b"* OK hello\r\n"

    def imap(self, line, lines, offered):
        tag, command, *_ = line.split()
        if command == "CAPABILITY":
            more = " STARTTLS LOGINDISABLED" if offered else ""
            return f"* CAPABILITY IMAP4rev1{more}\r\n{tag} OK done\r\n".encode()
        return f"{tag} {'NO start TLS first' if offered else 'OK ' + command}\r\n".encode()

    def pop3_greeting(self, _):
        return b"+OK hello\r\n"

    def pop3(self, line, lines, offered):
        command = line.split()[0].upper()
        if command == "CAPA":
            return b"+OK\r\nSTLS\r\n.\r\n" if offered else b"+OK\r\nUSER\r\n.\r\n"
        return b"-ERR start TLS first\r\n" if offered else b"+OK 1 200\r\n"


class Echo(Server):
    """Sends back what it gets."""

    def serve(self, connection):
        connection.settimeout(SECONDS)
        with contextlib.suppress(OSError), connection:
            while received := connection.recv(4096):
                connection.sendall(received)


class Xmpp(Server):
    """A server with STARTTLS, which sends back what it gets under TLS."""

    FEATURES = b"""<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'
        id='1' from='mail.example' version='1.0'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
        </stream:features>"""
    PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"

    def serve(self, connection):
        connection.settimeout(SECONDS)
        with contextlib.suppress(OSError):
            for end, reply in [(b"/streams'>", self.FEATURES), (b"/>", self.PROCEED)]:
                request = b""
                while not request.endswith(end):
                    request += connection.recv(1)
                connection.sendall(reply)
            assert b"<starttls" in request, request
            with self.context.wrap_socket(connection, server_side=True) as connection:
                while received := connection.recv(4096):
                    connection.sendall(received)


def smtp(port, kind, context):
    make = smtplib.SMTP_SSL if kind == "tls" else smtplib.SMTP
    more = {"context": context} if kind == "tls" else {}
    client = make(timeout=SECONDS, **more)
    client._host = "mail.example"
    code, greeting = client.connect("127.0.0.1", port)
    assert code == 220, (code, greeting)
    # The greeting is that of the program where it ends STARTTLS.
    assert (b"internal" in greeting) == (kind != "starttls"), greeting
    if kind == "starttls":
        client.starttls(context=context)
    client.sendmail("a@a.example", ["b@b.example"], "subject: hello\r\n")
    assert "size" in client.esmtp_features, client.esmtp_features
    client.quit()


def imap(port, kind, context):
    if kind == "tls":
        client = Imap4Tls(port, context)
    else:
        client = imaplib.IMAP4("127.0.0.1", port, timeout=SECONDS)
    if kind == "starttls":
        assert "LOGINDISABLED" in client.capabilities, client.capabilities
        client.host = "mail.example"
        client.starttls(context)
    assert "LOGINDISABLED" not in client.capabilities, client.capabilities
    assert client.login("a", "b")[0] == "OK"
    client.logout()


class Imap4Tls(imaplib.IMAP4_SSL):
    """It connects to loopback, and verifies the name of the server."""

    def __init__(self, port, context):
        super().__init__("mail.example", port, ssl_context=context, timeout=SECONDS)

    def _create_socket(self, timeout):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout)
        return self.ssl_context.wrap_socket(plain, server_hostname=self.host)


def pop3(port, kind, context):
    if kind == "tls":
        client = Pop3Tls("mail.example", port, timeout=SECONDS, context=context)
    else:
        client = poplib.POP3("127.0.0.1", port, timeout=SECONDS)
    if kind == "starttls":
        client.host = "mail.example"
        client.stls(context)
    client.user("a")
    client.pass_("b")
    assert client.stat() == (1, 200)
    client.quit()


class Pop3Tls(poplib.POP3_SSL):
    """It connects to loopback, and verifies the name of the server."""

    def _create_socket(self, timeout):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout)
        return self.context.wrap_socket(plain, server_hostname=self.host)


def xmpp(port, kind, context):
    """What a client sends comes back."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        if kind == "tls":
            client = context.wrap_socket(client, server_hostname="mail.example")
        client.sendall(b"<stream>\n")
        assert client.makefile("rb").readline() == b"<stream>\n"


def xmpp_with_openssl(port, chain):
    """openssl opens a stream and requests TLS; what it sends then comes back."""
    command = ["openssl", "s_client", "-quiet", "-no_ign_eof", "-starttls", "xmpp", "-xmpphost", "mail.example",
               "-verify_return_error", "-CAfile", chain, "-connect", f"127.0.0.1:{port}"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        client.stdin.write(b"<stream>\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"<stream>\n", client.stderr.read().decode()
    finally:
        client.kill()
        client.wait()


def injected_by_client(port, protocol):
    """The program closes before TLS if something follows the request in plain text (CVE-2011-0411)."""
    request = {"smtp": b"STARTTLS", "imap": b"a STARTTLS", "pop3": b"STLS"}[protocol]
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        lines = client.makefile("rb")
        assert lines.readline()
        client.sendall(request + b"\r\nNOOP\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert lines.read() == b""


def injected_by_server(port):
    """A server behind whose answer to STARTTLS something follows is not used, so its client is disconnected."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client, contextlib.suppress(ConnectionResetError):
        assert client.recv(4096) == b""


class BehindProxy(Server):
    """A server that takes the address of its client from a PROXY header, and may terminate TLS itself."""

    def __init__(self, protocol, context=None):
        self.peers = []
        super().__init__(protocol)
        self.own = context

    def serve(self, connection):
        connection.settimeout(SECONDS)
        with contextlib.suppress(OSError):
            header = connection.recv(16, socket.MSG_WAITALL)
            # A check of the health ends before it.
            if len(header) < 16:
                return connection.close()
            assert header[:12] == b"\r\n\r\n\0\r\nQUIT\n", header
            addresses = connection.recv(int.from_bytes(header[14:], "big"), socket.MSG_WAITALL)
            if header[12:14] == b"\x21\x11":
                self.peers.append((socket.inet_ntoa(addresses[:4]), int.from_bytes(addresses[8:10], "big")))
            if self.own:
                connection = self.own.wrap_socket(connection, server_side=True)
            super().serve(connection)


def by_its_file(binary, folder, offering, trusting):
    """`examples/config/mail.toml` itself, with other addresses and paths: submission with STARTTLS, and SMTPS, which is
    passed through."""
    submission, smtps = BehindProxy("smtp"), BehindProxy("smtp", offering)
    text = (ROOT / "examples/config/mail.toml").read_text()
    for old, new in {"/etc/portcullis/mail.pem": folder / "chain.pem", "/etc/portcullis/mail.key": folder / "key.pem",
                     "0.0.0.0:587": "127.0.0.1:0", "[::]:587": "127.0.0.2:0", "0.0.0.0:465": "127.0.0.1:0",
                     "[::]:465": "127.0.0.2:0", "10.0.3.3:10587": f"127.0.0.1:{submission.port}",
                     "10.0.3.3:10465": f"127.0.0.1:{smtps.port}"}.items():
        assert old in text, f"mail.toml has no {old}"
        text = text.replace(old, str(new))
    (folder / "mail.toml").write_text(text)
    with running([binary, "run", "--config", folder / "mail.toml"]) as program:
        found = ports(program, 2)
        threading.Thread(target=program.stdout.read, daemon=True).start()
        for name, kind, server in [("submission", "starttls", submission), ("smtps", "tls", smtps)]:
            with own_addresses() as own:
                smtp(found[name], kind, trusting)
            assert any(line.startswith("mail FROM") for line, _ in server.seen), server.seen
            assert own and set(own) <= set(server.peers), (own, server.peers)
            print(f"ok: {name} by mail.toml")
        with smtplib.SMTP("127.0.0.1", found["submission"], timeout=SECONDS) as plain:
            with contextlib.suppress(smtplib.SMTPException):
                plain.sendmail("plain@a.example", ["b@b.example"], "subject: hello\r\n")
                raise SystemExit("submission took mail without TLS")
        assert not any("plain@a.example" in line for line, _ in submission.seen), submission.seen
        print("ok: submission by mail.toml, without TLS")


@contextlib.contextmanager
def own_addresses():
    """The addresses of the connections that are made meanwhile."""
    made, connect = [], socket.create_connection

    def note(*arguments, **options):
        stream = connect(*arguments, **options)
        made.append(stream.getsockname())
        return stream

    socket.create_connection = note
    try:
        yield made
    finally:
        socket.create_connection = connect


@contextlib.contextmanager
def running(command):
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield program
    finally:
        program.terminate()
        program.wait(SECONDS)


class Refusing(Server):
    """Refuses each connection in its greeting."""

    GREETINGS = {"smtp": b"421 busy\r\n", "imap": b"* BYE busy\r\n", "pop3": b"-ERR busy\r\n"}

    def serve(self, connection):
        self.seen.append("a connection")
        with contextlib.suppress(OSError), connection:
            connection.sendall(self.GREETINGS[self.protocol])


class Injected(Server):
    """Its answer to STARTTLS is followed by one of someone else."""

    def smtp(self, line, lines, offered):
        return b"250-a\r\n250 STARTTLS\r\n" if line.startswith("EHLO") else b"220 go\r\n250 injected\r\n"

    def imap(self, line, lines, offered):
        return b"a OK go\r\n* CAPABILITY INJECTED\r\n"

    def pop3(self, line, lines, offered):
        return b"+OK go\r\n+OK injected\r\n"


def more_configuration(refusing, injected, servers):
    """For each protocol a backend whose first server refuses, and one whose answers are tampered with."""
    text = ""
    for protocol in PROTOCOLS:
        backend = BACKEND.format(protocol=protocol, server="refusing", port=refusing[protocol].port, keys='balance = "first"')
        own = f'"127.0.0.1:{refusing[protocol].port}"'
        next_one = f'"127.0.0.1:{servers[protocol, "plain"].port}"'
        text += backend.replace(own, f"[{own}, {next_one}]")
        text += BACKEND.format(protocol=protocol, server="injected", port=injected[protocol].port,
                               keys=TLS.format(protocol=protocol))
        keys = f'prelude = "{protocol}"\ntls.certificates = "mail"'
        text += LISTENER.format(kind="starttls", protocol=protocol, server="refusing", keys=keys)
        text += LISTENER.format(kind="plain", protocol=protocol, server="injected", keys="")
    return text


def configuration(servers):
    text = 'version = 1\n[[certificate]]\nname = "mail"\nchain = "chain.pem"\nkey = "key.pem"\n'
    for (protocol, server), backend in servers.items():
        keys = TLS.format(protocol=protocol) if server == "starttls" else ""
        text += BACKEND.format(protocol=protocol, server=server, port=backend.port, keys=keys)
        kinds = {"plain": "", "tls": 'tls.certificates = "mail"'}
        kinds["starttls"] = f'prelude = "{protocol}"\ntls = {{ certificates = "mail", required = true }}'
        for kind, keys in kinds.items():
            text += LISTENER.format(kind=kind, protocol=protocol, server=server, keys=keys)
    return text


def ports(program, count):
    """The ports of the listeners, from the log."""
    found = {}
    for line in program.stdout:
        match = re.search(r'listening on 127\.0\.0\.1:(\d+)', line)
        name = re.search(r'listener"?[=:] ?"?([\w-]+)', line)
        if match and name:
            found[name.group(1)] = int(match.group(1))
        if len(found) == count:
            return found
    raise SystemExit(f"the program ended: {found}")


def main():
    if not shutil.which("openssl"):
        print("openssl is not here: skipped")
        return
    binary = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/portcullis").resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-subj", "/CN=mail.example", "-addext", "subjectAltName=DNS:mail.example", "-addext",
                        "basicConstraints=CA:FALSE", "-days", "2",
                        "-keyout", folder / "key.pem", "-out", folder / "chain.pem"], check=True, capture_output=True)
        offering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        offering.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        trusting = ssl.create_default_context(cafile=folder / "chain.pem")
        servers = {(protocol, "plain"): Server(protocol) for protocol in PROTOCOLS}
        servers |= {(protocol, "starttls"): Server(protocol, offering) for protocol in PROTOCOLS}
        servers |= {("xmpp", "plain"): Echo("xmpp"), ("xmpp", "starttls"): Xmpp("xmpp", offering)}
        refusing = {protocol: Refusing(protocol) for protocol in PROTOCOLS}
        injected = {protocol: Injected(protocol) for protocol in PROTOCOLS}
        more = more_configuration(refusing, injected, servers)
        (folder / "gate.toml").write_text(configuration(servers) + more)
        with running([binary, "run", "--config", folder / "gate.toml"]) as program:
            found = ports(program, 3 * len(servers) + 2 * len(PROTOCOLS))
            threading.Thread(target=program.stdout.read, daemon=True).start()
            for (protocol, server), backend in servers.items():
                for kind in ["plain", "tls", "starttls"]:
                    port = found[f"{kind}-{protocol}-{server}"]
                    if (protocol, kind) == ("xmpp", "starttls"):
                        xmpp_with_openssl(port, folder / "chain.pem")
                    else:
                        globals()[protocol](port, kind, trusting)
                    print(f"ok: {protocol}, a client with {kind}, a server with {server}")
                # What clients say reaches a server with STARTTLS under TLS alone.
                secrets = [under_tls for line, under_tls in backend.seen if re.match(r"MAIL|USER|\w+ LOGIN", line, re.I)]
                assert all(under_tls == (server == "starttls") for under_tls in secrets), backend.seen
                assert secrets or protocol == "xmpp"
            for protocol in PROTOCOLS:
                globals()[protocol](found[f"starttls-{protocol}-refusing"], "starttls", trusting)
                assert refusing[protocol].seen
                print(f"ok: {protocol}, a server that refuses is followed by the next one")
                injected_by_client(found[f"starttls-{protocol}-plain"], protocol)
                injected_by_server(found[f"plain-{protocol}-injected"])
                assert injected[protocol].seen
                print(f"ok: {protocol}, bytes behind STARTTLS")
        by_its_file(binary, folder, offering, trusting)


if __name__ == "__main__":
    main()
