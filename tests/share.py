#!/usr/bin/env python3
"""Checks the files in src/bin/portcullis/share with the programs that they are for.

    cargo build -p portcullis-cli
    python3 tests/share.py [PROGRAM [STATIC]]

PROGRAM is target/debug/portcullis by default, STATIC the same built for a target of musl, for the image. systemd judges
the units, mandoc the man pages, and bash, zsh and fish complete a command line. The schema judges complete files. The
manifests of Kubernetes are validated with the schemas of its releases, and their configuration, probes and commands are
tried on the running program. podman builds the image of STATIC, without a registry, and runs it. A check whose program
is missing is skipped, with a note. All ports are free ones of loopback, and port 53 of 127.77.0.53 for a name server.
Only processes that were started here are ended."""

import contextlib
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
import ssl
import struct
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
    releases = validated(objects.values())
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
    return f"Kubernetes' manifests agree with each other and with the program, and are valid in {releases}"


def validated(objects):
    """Compares the manifests with the schemas of all releases that the package has, in which no key is unknown."""
    if importlib.util.find_spec("kubernetes_validate") is None:
        return "releases unknown, without kubernetes-validate"
    import copy
    import kubernetes_validate as schemas

    def problem(manifest, release):
        try:
            schemas.validate(manifest, release, strict=True)
        except schemas.ValidationError as error:
            return f"{'.'.join(map(str, error.path))}: {error.message}"

    releases = sorted(schemas.utils.all_versions(), key=lambda release: [int(number) for number in release.split(".")])
    for release in releases:
        for manifest in objects:
            assert not problem(manifest, release), f"Kubernetes {release}, {manifest['kind']}: {problem(manifest, release)}"
    [deployment] = [copy.deepcopy(it) for it in objects if it["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    assert problem(deployment, releases[-1]), "a key that does not exist is not noticed"
    return f"Kubernetes {releases[0]} to {releases[-1]}"


def tried(binary, folder, text, container, ports):
    """Runs the container's command with its configuration on free ports, with the probes and the command before its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    free = {ports[name]: port for name, port in free_ports(list(ports)).items()}

    def here(text):
        text = re.sub(r"(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)", lambda it: f"127.0.0.1:{free[int(it[1])]}", text)
        return text.replace("/etc/portcullis", f"{folder}/portcullis")

    self_signed(folder / "tls")
    mount(folder / "portcullis-tls", **{f"tls.{it}": (folder / f"tls.{it}").read_text() for it in ["crt", "key"]})
    mount(folder / "portcullis-admin", token="0123456789abcdef0123456789abcdef")
    gate = re.sub(r'"web\.default\S+?"', f'"127.0.0.1:{listener.getsockname()[1]}"', here(text))
    config = folder / "portcullis"
    mount(config, **{"gate.toml": gate})
    arguments = [here(word) for word in container["args"]]
    run(binary, "check", *arguments[1:])
    log = folder / "kubernetes.log"
    with listener, program(log, binary, *arguments) as process:
        for probe in ["readinessProbe", "livenessProbe"]:
            probe = container[probe]["httpGet"]
            eventually(probe["path"], lambda: probe and get(free[ports[probe["port"]]], probe["path"]) is not None)
        web = free[ports["web"]], folder / "tls.crt"
        behind_a_balancer(*web, log, lambda trusted: mount(
            config, **{"gate.toml": gate.replace("10.0.0.0/8", trusted)}))
        [name, *command] = container["lifecycle"]["preStop"]["exec"]["command"]
        assert name == "portcullis"
        run(binary, *map(here, command))
        ready = container["readinessProbe"]["httpGet"]["path"]
        admin = free[ports["admin"]]
        eventually("not ready", lambda: status(admin, ready) == 503)
        assert status(admin, container["livenessProbe"]["httpGet"]["path"]) == 200
        assert balanced(*web, CLIENT), "endpoints still have the pod"
        assert process.poll() is None, log.read_text()


def mount(path, **files):
    """Writes a volume as Kubernetes does: its files are links, and a change replaces the folder that they lead to."""
    contents = path / f"..{time.time_ns()}"
    contents.mkdir(parents=True)
    for name, text in files.items():
        (contents / name).write_text(text)
        if not (path / name).is_symlink():
            (path / name).symlink_to(Path("..data") / name)
    link = path / "..data_tmp"
    link.symlink_to(contents.name)
    link.rename(path / "..data")


# Whom a balancer names.
CLIENT = "203.0.113.7", 41234


def behind_a_balancer(port, chain, log, trust):
    """A client that a balancer names is served and logged, once the mounted file trusts the balancer's address."""

    def reload(trusted):
        before = log.read_text().count("was reloaded")
        trust(trusted)
        eventually("a reload of the mounted file", lambda: log.read_text().count("was reloaded") > before)

    assert not balanced(port, chain, CLIENT), "the manifest trusts loopback"
    reload("127.0.0.0/8")
    assert balanced(port, chain, CLIENT), log.read_text()
    eventually("the client's address", lambda: f'"peer":"{CLIENT[0]}:{CLIENT[1]}"' in log.read_text())
    assert not balanced(port, chain, None), "the header is required"


def balanced(port, chain, client):
    """Whether an echo answers over TLS, behind a balancer that names `client` by version 2 of the PROXY protocol."""
    trusting = ssl.create_default_context(cafile=chain)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        if client:
            (address, number), (own, own_number) = client, stream.getpeername()
            addresses = socket.inet_aton(address) + socket.inet_aton(own) + struct.pack("!HH", number, own_number)
            stream.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses)
        with trusting.wrap_socket(stream, server_hostname="localhost") as stream:
            stream.sendall(b"hello")
            return stream.recv(5) == b"hello"
    return False


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
[drain]
deadline = "20s"
[admin]
listen = "127.0.0.1:{admin}"
hosts = ["gate.test"]
[[listener]]
name = "echo"
listen = "127.0.0.1:{web}"
backend = "echo"
limits.connections = 100
[[backend]]
name = "echo"
servers = "echo.test:{echo}"
"""

# An address of loopback on which no name server is.
NAME_SERVER = "127.77.0.53"


def image(static, folder):
    """Builds the last stage of the Containerfile around the static binary, and runs it without a registry."""
    need("podman")
    if os.geteuid() != 0:
        raise Skipped("root, for podman")
    if static is None:
        raise Skipped("the static binary")
    podman = ["podman", "--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs",
              "--cgroup-manager", "cgroupfs"]
    if shutil.which("runc"):  # crun accepts no cgroups of both versions
        podman += ["--runtime", "runc"]
    build(podman, static, folder / "context")
    [it] = json.loads(run(*podman, "image", "inspect", "portcullis"))
    config = it["Config"]
    assert config["StopSignal"] == "SIGTERM" and config["User"] == "65532:65532", config
    [kind, *health] = it["Healthcheck"]["Test"]
    assert kind == "CMD"

    folder.chmod(0o755)  # for the user of the image
    configuration = folder / "gate"
    configuration.mkdir()
    start = [*podman, "run", "--name=gate", "--read-only", "--cap-drop=all", f"--volume={configuration}:/etc/portcullis:ro",
             "--network=host", f"--dns={NAME_SERVER}", "--dns-search=.", "--cgroupns=host", "--no-healthcheck",
             "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "portcullis"]
    log = folder / "image.log"
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    ports = free_ports(["admin", "web"]) | {"echo": listener.getsockname()[1]}
    (configuration / "gate.toml").write_text(GATE.format(**ports))
    with listener, name_server() as asked, program(log, *start) as process:
        try:
            eventually("an echo", lambda: exchange(ports["web"]))
            # The backend's name is resolved by the program, if it has the feature `dns`, and this one by the C library.
            run(*podman, "exec", "gate", "portcullis", "ctl", f"--admin=http://gate.test:{ports['admin']}", "ready")
            assert {b"echo.test", b"gate.test"} <= asked, asked
            assert [status(ports["admin"], path) for path in ["/livez", "/readyz"]] == [200, 200]
            confined(int(run(*podman, "inspect", "--format={{.State.Pid}}", "gate")))
            run(*podman, "exec", "gate", *health)
            with socket.create_connection(("127.0.0.1", ports["web"]), timeout=10) as open_one:
                open_one.sendall(b"one")
                assert open_one.recv(3) == b"one"
                process.send_signal(signal.SIGTERM)  # which podman passes on
                eventually("no new connections", lambda: refuses(ports["web"]))
                assert status(ports["admin"], "/readyz") == 503 and process.poll() is None
                with contextlib.suppress(AssertionError):
                    run(*podman, "exec", "gate", *health)
                    raise RuntimeError("the check of health passes while it drains")
                open_one.sendall(b"two")
                assert open_one.recv(3) == b"two"
            assert process.wait(SECONDS) == 0, log.read_text()
        except BaseException:
            print(log.read_text()[-3000:], file=sys.stderr)
            run(*podman, "rm", "--force", "--time=5", "gate")
            raise
    run(*podman, "rm", "gate")
    size = static.stat().st_size >> 10
    return (f"the image of {size} KiB resolves and serves as user 65532, read-only and without capabilities; "
            "its HEALTHCHECK tells whether it does; SIGTERM drains, with exit code 0")


def build(podman, static, context):
    final = re.split(r"^(?=FROM )", (SHARE / "Containerfile").read_text(), flags=re.MULTILINE)[-1]
    assert final.startswith("FROM scratch"), final
    for source in re.findall(r"COPY --from=build (\S+)", final):
        copy = context / source.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(static if copy.name == "portcullis" else source, copy)
    (context / "Containerfile").write_text(final.replace("COPY --from=build ", "COPY "))
    run(*podman, "build", "--isolation=chroot", "--format=docker", "--tag=portcullis", context)


def confined(process):
    """The user, the capabilities and the root file system of a process."""
    assert fact(process, "Uid") == "65532" and int(fact(process, "CapEff"), 16) == 0
    mounts = [line.split() for line in Path(f"/proc/{process}/mountinfo").read_text().splitlines()]
    [options] = [mount[5] for mount in mounts if mount[4] == "/"]
    assert "ro" in options.split(","), options


@contextlib.contextmanager
def name_server():
    """Knows addresses of all names: 127.0.0.1, and none of IPv6. Yields the names that it was asked for."""
    asked = set()

    def serve(server):
        with contextlib.suppress(OSError):
            while True:
                query, client = server.recvfrom(512)
                end = query.index(0, 12) + 1
                name = b".".join(re.split(rb"[\0-\x3f]", query[13:end - 1]))
                asked.add(name)
                is_v4 = query[end:end + 2] == b"\0\1"
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if is_v4 else b""
                head = query[:2] + b"\x85\x80\0\1" + bytes([0, is_v4]) + bytes(4)
                server.sendto(head + query[12:end + 4] + answer, client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAME_SERVER, 53))
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield asked


def exchange(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(b"hello")
        return stream.recv(5) == b"hello"


def refuses(port):
    try:
        return not exchange(port)
    except OSError:
        return True


def fact(process, name):
    return re.search(rf"^{name}:\s+(\S+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)[1]


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
