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


class Configured(Front):
    """`portcullis run` with a configuration of a check itself."""

    def __init__(self, path, text):
        file = path / "own.toml"
        file.write_text(text)
        super().__init__([Portcullis.program, "run", "--config", file])


class Authority:
    """Signs certificates, whose files are kept in a folder."""

    def __init__(self, path):
        self.path, self.certificate, self.key = path, path / "ca.pem", path / "ca.key"
        self.make(self.certificate, self.key, "/CN=authority of a test", "-addext", "keyUsage=keyCertSign,cRLSign")

    def sign(self, stem, *names):
        """The files of a chain and its key, for these names and for 127.0.0.1."""
        return self.sign_for(stem, *(f"DNS:{name}" for name in names), "IP:127.0.0.1")

    def sign_for(self, stem, *names):
        """The same for names as OpenSSL writes them, such as `URI:spiffe://mesh/a`."""
        chain, key = self.path / f"{stem}.pem", self.path / f"{stem}.key"
        self.make(chain, key, "/CN=peer of a test", "-CA", self.certificate, "-CAkey", self.key,
                  "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={','.join(names)}")
        return chain, key

    def revoke(self, file, *chains):
        """Writes the list of revoked certificates, which then has these, too."""
        settings = self.path / "authority.cnf"
        settings.write_text(f"[ca]\ndefault_ca = test\n[test]\ndatabase = {self.path / 'index.txt'}\n"
                            f"crlnumber = {self.path / 'crlnumber'}\ndefault_md = sha256\ndefault_crl_days = 9\n"
                            "crl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid:always\n")
        for name, text in ("index.txt", ""), ("crlnumber", "01\n"):
            if not (self.path / name).exists():
                (self.path / name).write_text(text)
        sign = [need("openssl"), "ca", "-config", settings, "-cert", self.certificate, "-keyfile", self.key]
        for chain in chains:
            run(*sign, "-revoke", chain)
        new = file.with_suffix(".new")
        run(*sign, "-gencrl", "-out", new)
        new.rename(file)

    def make(self, chain, key, subject, *options):
        run(need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 9,
            "-subj", subject, "-keyout", key, "-out", chain, *options)
