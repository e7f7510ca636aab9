"""The program `portcullis` with the files of `examples/config`, and certificates for it."""

import re
from pathlib import Path

from processes import Front, need, run

CONFIGURATIONS = Path(__file__).parents[2] / "examples/config"


class Portcullis(Front):
    """`portcullis run` with one of the files, in which other addresses, ports and paths are written. Nothing else of
    it may change."""

    program = None

    def __init__(self, path, name, places, host="localhost", certificate=None):
        text = (CONFIGURATIONS / name).read_text()
        for old, new in places.items():
            assert old in text, f"{name} has no {old}"
            assert re.fullmatch(r"[\w./:-]+", str(new)), f"{new} is more than an address, a port or a path"
            text = text.replace(old, str(new))
        file = path / name
        file.write_text(text)
        self.host, self.certificate = host, certificate
        super().__init__([self.program, "run", "--config", file])


class Forward(Front):
    """`portcullis forward`, which needs no file."""

    def __init__(self, backend):
        super().__init__([Portcullis.program, "forward", "127.0.0.1:0", f"127.0.0.1:{backend}"])


class Authority:
    """Signs certificates, whose files are kept in a folder."""

    def __init__(self, path):
        self.path, self.certificate, self.key = path, path / "ca.pem", path / "ca.key"
        self.make(self.certificate, self.key, "/CN=authority of a test", "-addext", "keyUsage=keyCertSign,cRLSign")

    def sign(self, stem, *names):
        """The files of a chain and its key, for these names and for 127.0.0.1."""
        chain, key = self.path / f"{stem}.pem", self.path / f"{stem}.key"
        names = ",".join([*(f"DNS:{name}" for name in names), "IP:127.0.0.1"])
        self.make(chain, key, "/CN=server of a test", "-CA", self.certificate, "-CAkey", self.key,
                  "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={names}")
        return chain, key

    def make(self, chain, key, subject, *options):
        run(need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 9,
            "-subj", subject, "-keyout", key, "-out", chain, *options)
