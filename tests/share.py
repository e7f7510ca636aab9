#!/usr/bin/env python3
"""Checks the files in src/bin/portcullis/share with the programs that they are for.

    cargo build -p portcullis-cli
    python3 tests/share.py [PROGRAM [STATIC]]

PROGRAM is target/debug/portcullis by default, STATIC the same built for a target of musl, for the image. systemd judges
the units, mandoc the man pages, and bash, zsh and fish complete a command line. The schema judges complete files. The
manifests of Kubernetes are read, and their configuration, probes and commands are tried on the running program. buildah
builds the image of STATIC, without a registry, and runs it. A check whose program is missing is skipped, with a note. All ports are free ones of loopback, and only processes that were started here are ended."""

import importlib.util
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from monitoring import echo, eventually, free_ports, get, program, run

ROOT = Path(__file__).parent.parent
SHARE = ROOT / "src/bin/portcullis/share"
MAN = sorted((SHARE / "man").glob("*.1"))
SECONDS = 30


class Skipped(Exception):
    """What is not installed."""


def need(*programs):
    for name in programs:
        if shutil.which(name) is None:
            raise Skipped(name)


# systemd


def units(binary, folder):
    need("systemd-analyze")
    version = int(re.search(r"systemd (\d+)", run("systemd-analyze", "--version"))[1])
    for name in ["portcullis.service", "portcullis.socket"]:
        text = (SHARE / name).read_text()
        assert name.endswith("socket") or "/usr/bin/portcullis" in text
        (folder / name).write_text(text.replace("/usr/bin/portcullis", str(binary)))
    service = folder / "portcullis.service"
    problems = run("systemd-analyze", "verify", service, folder / "portcullis.socket").splitlines()
    if version < 253:  # the unit says so
        problems = [problem for problem in problems if not problem.endswith("ignoring: notify-reload")]
    # What other units of this machine do wrong is reported, too.
    problems = [problem for problem in problems if "portcullis" in problem]
    assert not problems, problems
    # 2.0 on a scale to 10; a service without any hardening has 9.6.
    security = run("systemd-analyze", "security", "--offline=true", "--threshold=20", service)
    exposure = re.search(r"Overall exposure level.*: ([\d.]+)", security)[1]
    return f"systemd {version} finds no fault in the units; exposure {exposure} of 10"


# Man pages and completions


def man_pages(_binary, _folder):
    need("mandoc", "man")
    assert MAN
    run("mandoc", "-T", "lint", "-W", "warning", *MAN)
    for page in MAN:
        shown = subprocess.run(["man", "--warnings", "--local-file", page], capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0 and not shown.stderr, f"{page.name}: {shown.stderr}"
    return f"{len(MAN)} man pages without a warning of mandoc and groff"


def commands_of(binary):
    """The commands of `ctl` by its own help."""
    text = run(binary, "ctl", "--help").partition("Commands:")[2].partition("Options:")[0]
    found = set(re.findall(r"^  (\S+)", text, re.MULTILINE))
    assert {"ready", "drain"} < found, text
    return found


def bash(binary, _folder):
    need("bash")
    script = f"""source {SHARE}/completions/portcullis.bash
        COMP_WORDS=(portcullis ctl "") COMP_CWORD=2
        $(complete -p portcullis | sed 's/.*-F \\([^ ]*\\).*/\\1/') portcullis "" ctl
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    offered = {word for word in run("bash", "--norc", "-c", script).split() if not word.startswith("-")}
    assert offered == commands_of(binary), offered
    return f"bash completes {len(offered)} commands of ctl"


def fish(binary, folder):
    need("fish")
    script = f"source {SHARE}/completions/portcullis.fish; complete -C 'portcullis ctl '"
    lines = run("fish", "--no-config", "-c", script, env={**os.environ, "HOME": str(folder)}).splitlines()
    offered = {line.split("\t")[0] for line in lines}
    assert offered == commands_of(binary), offered
    return f"fish completes {len(offered)} commands of ctl"


def zsh(binary, folder):
    """zsh completes only in a terminal."""
    need("zsh")
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200", "LINES": "100", "ZDOTDIR": str(folder)}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)
    try:
        completions = shlex.quote(str(SHARE / "completions"))
        os.write(terminal, f"fpath=({completions} $fpath); autoload -U compinit; compinit -u -D; echo $((9*9))\n".encode())
        until(terminal, "81\r\n")
        os.write(terminal, b"portcullis ctl \t")
        expected = commands_of(binary)
        text = until(terminal, "status", "-- ")
        offered = set(re.findall(r"^(\S+) +-- ", text, re.MULTILINE))
        assert offered == expected, text
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    return f"zsh completes {len(offered)} commands of ctl"


def until(terminal, *texts):
    """What a terminal shows, up to the line with the last of these texts, in this order."""
    shown, deadline = "", time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 1 << 16).decode(errors="replace")
            if re.search(".*".join(map(re.escape, texts)) + ".*", shown, re.DOTALL):
                return shown
    raise AssertionError(f"{texts} did not appear: {shown}")


# The schema of the configuration


def schema(_binary, _folder):
    """Complete files pass, and mistakes that an editor can see do not."""
    for module in ["jsonschema", "tomllib"]:
        if importlib.util.find_spec(module) is None:
            raise Skipped(module)
    import jsonschema
    import tomllib

    described = json.loads((SHARE / "portcullis.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(described)
    validator = jsonschema.Draft7Validator(described)

    def problems(text):
        return [problem.message for problem in validator.iter_errors(tomllib.loads(text))]

    program = ROOT / "src/bin/portcullis"
    [every_key] = re.findall(r"```toml\n(version.*?)```", (program / "configuration.md").read_text(), re.DOTALL)
    files = [*sorted((ROOT / "examples/config").glob("*.toml")), program / "demo.toml"]
    for text in [every_key, *(file.read_text() for file in files)]:
        assert not problems(text), f"{problems(text)} in:\n{text}"
    wrong = [("version = 1", "version = 2"), ('deadline = "30s"', "deadline = 30"), ('idle = "1h"', 'idle = "1 hour"'),
             ('rate        = "50/s"', 'rate = "50 KiB/s"'), ('total          = "50 MiB/s"', 'total = "50 MB/s"'),
             ('balance ', 'balnce '), ('refuse      = "reset"', 'refuse = "drop"'),
             ('listen  = ["0.0.0.0:443", "[::]:443"]', "listen = 443"), ("weight          = 50", 'weight = "50"'),
             ('wait = "5s", at-most = 100', 'wait = "5s"'), ('certificate = "shop", prelude', 'certificate = "shop", preludes'),
             ('lifetime-jitter = "10%"', 'lifetime-jitter = "110%"'), ('name  = "shop"\nchain', "chain")]
    for good, bad in wrong:
        assert good in every_key, good
        assert problems(every_key.replace(good, bad, 1)), f"{bad} is not noticed"
    return f"the schema passes {1 + len(files)} complete files, and notices {len(wrong)} mistakes"


# Kubernetes


def kubernetes(binary, folder):
    if importlib.util.find_spec("yaml") is None:
        raise Skipped("PyYAML")
    import yaml

    objects = {it["kind"]: it for it in yaml.safe_load_all((SHARE / "kubernetes.yaml").read_text())}
    assert set(objects) == {"ConfigMap", "Deployment", "Service"}, set(objects)
    deployment = objects["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    text = objects["ConfigMap"]["data"]["gate.toml"]

    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == objects["Service"]["spec"]["selector"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} <= set(ports)
    listening = {int(port) for port in re.findall(r'listen = "0\.0\.0\.0:(\d+)"', text)}
    assert listening == set(ports.values()), f"listens on {listening}, declares {ports}"

    security = pod["securityContext"] | container["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"} and not pod["automountServiceAccountToken"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in (SHARE / "Containerfile").read_text()

    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert volumes == {mount["name"] for mount in mounts.values()} and all(it["readOnly"] for it in mounts.values())
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    for path in re.findall(r"/etc/[\w./-]+", " ".join([text, *command, *container["args"]])):
        assert str(Path(path).parent) in mounts, f"{path} is in no volume"
    bounds = [int(re.search(rf'{key} = "(\d+)s"', text)[1]) for key in ["announce", "deadline"]]
    assert pod["terminationGracePeriodSeconds"] > sum(bounds), "the pod is killed before the drain has ended"

    tried(binary, folder, text, container, ports)
    return "Kubernetes' manifests agree with each other and with the program"


def tried(binary, folder, text, container, ports):
    """Runs the container's command with its configuration on free ports, with the probes and the command before its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    free = {ports[name]: port for name, port in free_ports(list(ports)).items()}

    def here(text):
        text = re.sub(r"(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)", lambda it: f"127.0.0.1:{free[int(it[1])]}", text)
        return re.sub(r"/etc/portcullis[\w-]*/", f"{folder}/", text)

    self_signed(folder / "tls")
    (folder / "token").write_text("0123456789abcdef0123456789abcdef")
    (folder / "gate.toml").write_text(re.sub(r'"web\.default\S+?"', f'"127.0.0.1:{listener.getsockname()[1]}"', here(text)))
    arguments = [here(word) for word in container["args"]]
    run(binary, "check", *arguments[1:])
    log = folder / "kubernetes.log"
    with listener, program(log, binary, *arguments) as process:
        for probe in ["readinessProbe", "livenessProbe"]:
            probe = container[probe]["httpGet"]
            eventually(probe["path"], lambda: probe and get(free[ports[probe["port"]]], probe["path"]) is not None)
        [name, *command] = container["lifecycle"]["preStop"]["exec"]["command"]
        assert name == "portcullis"
        run(binary, *map(here, command))
        ready = container["readinessProbe"]["httpGet"]["path"]
        admin = free[ports["admin"]]
        eventually("not ready", lambda: status(admin, ready) == 503)
        assert status(admin, container["livenessProbe"]["httpGet"]["path"]) == 200
        socket.create_connection(("127.0.0.1", free[ports["web"]])).close()  # while endpoints still have the pod
        assert process.poll() is None, log.read_text()


def status(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        return int(stream.makefile("rb").readline().split()[1])


def self_signed(stem):
    need("openssl")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "5", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{stem}.key", "-out", f"{stem}.crt")


# The image


GATE = """\
version = 1
[admin]
listen = "127.0.0.1:{admin}"
[[listener]]
name = "echo"
listen = "127.0.0.1:{web}"
backend = "echo"
[[backend]]
name = "echo"
servers = "localhost:{echo}"
"""


def image(static, folder):
    """Builds the last stage of the Containerfile around the static binary, and runs it without a registry."""
    need("buildah")
    if os.geteuid() != 0:
        raise Skipped("root, for buildah")
    if static is None:
        raise Skipped("the static binary")
    final = re.split(r"^(?=FROM )", (SHARE / "Containerfile").read_text(), flags=re.MULTILINE)[-1]
    assert final.startswith("FROM scratch"), final
    context = folder / "context"
    for source in re.findall(r"COPY --from=build (\S+)", final):
        copy = context / source.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(static if copy.name == "portcullis" else source, copy)
    (context / "Containerfile").write_text(final.replace("COPY --from=build ", "COPY "))
    buildah = ["buildah", "--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs"]
    run(*buildah, "bud", "--isolation", "chroot", "--format", "docker", "-t", "portcullis", context)
    name = run(*buildah, "from", "portcullis").strip().splitlines()[-1]
    config = json.loads(run(*buildah, "inspect", name))["Docker"]["config"]
    assert config["StopSignal"] == "SIGTERM" and config["User"] == "65532:65532", config
    [kind, *health] = config["Healthcheck"]["Test"]
    assert kind == "CMD"

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    ports = free_ports(["admin", "web"]) | {"echo": listener.getsockname()[1]}
    configuration = folder / "gate"
    configuration.mkdir()
    (configuration / "gate.toml").write_text(GATE.format(**ports))
    folder.chmod(0o755)  # for the user of the image
    inside = [*buildah, "run", "--isolation", "chroot", "--volume", f"{configuration}:/etc/portcullis:ro", name, "--"]
    try:
        with listener, program(folder / "image.log", *inside, *config["Entrypoint"], *config["Cmd"]) as process:
            eventually("an echo", lambda: exchange(ports["web"]))
            def gates():
                return [it for it in descendants(process.pid) if fact(it, "Name") == "portcullis"]

            [gate] = eventually("the program", gates)
            try:
                assert fact(gate, "Uid") == "65532", fact(gate, "Uid")
                run(*inside, *health)
            finally:
                os.kill(gate, signal.SIGTERM)
            assert process.wait(SECONDS) == 0, (folder / "image.log").read_text()
        wrong = subprocess.run([str(word) for word in [*inside, *health]], capture_output=True, text=True, timeout=60)
        assert wrong.returncode != 0, "the check of health passes without the program"
    finally:
        run(*buildah, "rm", "--all")
    return f"the image of {static.stat().st_size >> 10} KiB serves, as user 65532, and its HEALTHCHECK tells whether it does"


def exchange(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(b"hello")
        return stream.recv(5) == b"hello"


def fact(process, name):
    return re.search(rf"^{name}:\s+(\S+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)[1]


def descendants(process):
    """The process and all that its threads have started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    children = " ".join(path.read_text() for path in lists).split()
    return [process, *(it for child in children for it in descendants(int(child)))]


def main():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = Path(sys.argv[1]) if len(sys.argv) > 1 else target / "debug/portcullis"
    static = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    for check in [units, man_pages, bash, zsh, fish, schema, kubernetes, image]:
        with tempfile.TemporaryDirectory() as folder:
            subject = static if check is image else binary
            try:
                print(check(subject and subject.resolve(), Path(folder)), flush=True)
            except Skipped as what:
                print(f"{check.__name__}: {what} is not here: skipped", flush=True)


if __name__ == "__main__":
    main()
