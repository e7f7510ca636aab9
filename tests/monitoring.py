#!/usr/bin/env python3
"""Scrapes the program with a real Prometheus, and runs each query of the dashboard and each alert against it.

    cargo build -p portcullis-cli
    python3 tests/monitoring.py [PROGRAM]

PROGRAM is target/debug/portcullis by default. It needs `prometheus`, `promtool` and `openssl`, and ends with a note
if one is missing. With `grafana-foundation-sdk` and `prometheus-client` of Python, the dashboard and OpenMetrics are
checked more strictly. The program gets traffic that raises every alert: a certificate that ends soon, servers that are
down, refused clients, failed handshakes, a full listener and a reload that fails. All ports are free ones of loopback,
and only processes that were started here are ended."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARE = ROOT / "src/bin/portcullis/share"
SECONDS = 30

CONFIG = """\
version = 1

[admin]
listen = "127.0.0.1:{admin}"

[[certificate]]
name = "local"
chain = "chain.pem"
key = "key.pem"

[[listener]]
name = "tls"
listen = "127.0.0.1:{tls}"
backend = "app"
tls = {{ certificates = "local" }}
per-client = {{ connections = 100, rate = "1000/s", burst = 1000 }}

[[listener]]
name = "observed"
listen = "127.0.0.1:{observed}"
backend = "app"
access = {{ deny = ["127.0.0.0/8"], observe = true }}

[[listener]]
name = "denied"
listen = "127.0.0.1:{denied}"
backend = "app"
access = {{ deny = ["127.0.0.0/8"] }}

[[listener]]
name = "small"
listen = "127.0.0.1:{small}"
backend = "app"
limits = {{ connections = 2 }}

[[listener]]
name = "lost"
listen = "127.0.0.1:{lost}"
backend = "gone"

[[backend]]
name = "app"
servers = ["127.0.0.1:{echo}", "127.0.0.1:{closed}"]
health = "tcp"

[[backend]]
name = "gone"
servers = "127.0.0.1:{closed}"
health = "tcp"

[[backend]]
name = "unchecked"
servers = ["127.0.0.1:{closed}", "127.0.0.1:{echo}"]
health = "off"
balance = "first"

[[backend]]
name = "encrypted"
servers = "127.0.0.1:{tls}"
health = {{ tls = {{ name = "localhost", roots = "chain.pem" }} }}

[[listener]]
name = "retried"
listen = "127.0.0.1:{retried}"
backend = "unchecked"
"""

PROMETHEUS = """\
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: portcullis
    static_configs: [{{ targets: ["127.0.0.1:{admin}"] }}]
"""


def missing():
    programs = ["prometheus", "promtool", "openssl"]
    return [program for program in programs if shutil.which(program) is None]


def free_ports(names):
    """A free port for each name, all different."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: probe.getsockname()[1] for name, probe in zip(names, sockets)}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {output}"
    return output


@contextlib.contextmanager
def program(log, *command, **options):
    """Runs in the background until the block ends."""
    with log.open("w") as output:
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def get(port, path, **query):
    query = "?" + urllib.parse.urlencode(query) if query else ""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}{query}", timeout=10) as answer:
        return answer.read().decode()


def eventually(what, check):
    """Repeats a check until it neither fails nor returns a false value."""
    deadline, last = time.monotonic() + SECONDS, None
    while time.monotonic() < deadline:
        try:
            if value := check():
                return value
        except (OSError, AssertionError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {SECONDS} s; {last}")


# Traffic


def echo(listener):
    """Sends back what it receives, for each connection."""

    def serve(stream):
        with stream, contextlib.suppress(OSError):
            while data := stream.recv(4096):
                stream.sendall(data)

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def exchange(port, tls=None):
    """A connection with an echo; whether it worked."""
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
            stream = tls.wrap_socket(stream, server_hostname="localhost") if tls else stream
            with stream:
                stream.sendall(b"hello")
                return stream.recv(5) == b"hello"
    return False


def traffic(ports, stop):
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    good = bad = 0
    while not stop.wait(0.05):
        good += exchange(ports["tls"], trusting) and exchange(ports["observed"]) and exchange(ports["retried"])
        # Bytes that are no handshake, twice, so that more than a fifth of the handshakes fail.
        for name in ["tls", "tls", "denied", "lost"]:
            bad += not exchange(ports[name])
    assert good > 20 and bad > 80, f"{good} exchanges worked and {bad} failed"


# Checks


def metrics_are_clean(admin):
    text = get(admin, "/metrics")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    output = checked.stdout + checked.stderr
    assert checked.returncode == 0 and not output.strip(), f"promtool check metrics: {output}"
    print(f"promtool check metrics: clean, {len(text.splitlines())} lines")


def open_metrics_are_strict(admin):
    """By the parser of Prometheus' Python client. The bounds are floats, as OpenMetrics wants."""
    if importlib.util.find_spec("prometheus_client") is None:
        return print("prometheus-client: not installed; skipped")
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

    accept = {"Accept": "application/openmetrics-text"}
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/metrics", headers=accept)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text"), answer.headers
        families = list(parse(answer.read().decode()))
    bounds = {sample.labels["le"] for family in families for sample in family.samples if "le" in sample.labels}
    assert {"0.0001", "1.0", "43200.0", "+Inf"} <= bounds, bounds
    print(f"OpenMetrics: {len(families)} families by a strict parser")


def bounds_are_the_same(prometheus):
    """Prometheus scrapes OpenMetrics here, and no series depends on the format."""
    bound = 'count(portcullis_handshake_duration_seconds_bucket{le="1.0"})'
    eventually("a bound", lambda: select(prometheus, bound))
    assert not select(prometheus, '{le=~"[0-9]+"}')


def select(prometheus, query):
    answer = json.loads(get(prometheus, "/api/v1/query", query=query))
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def dashboard_has_data(prometheus):
    """Each query has data, for all programs and for the one that the lists of the dashboard offer."""
    dashboard = json.loads((SHARE / "grafana.json").read_text())
    chosen = {variable["name"]: choice(prometheus, variable) for variable in variables(dashboard, "query")}
    every = {name: ".*" for name in chosen}
    count = 0
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            for values in [every, chosen]:
                query = substituted(target["expr"], values)
                found = eventually(query, lambda: select(prometheus, query))
                assert all(result["value"][1] != "NaN" for result in found) or "quantile" in query, f"{query}: {found}"
                for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                    assert all(label in result["metric"] for result in found), f"{query} has no label {label}"
                count += 1
    print(f"{count} queries of the dashboard have data, with the values {chosen}")


def variables(dashboard, kind):
    return [variable for variable in dashboard["templating"]["list"] if variable["type"] == kind]


def choice(prometheus, variable):
    """The one value of a variable, as Grafana asks for it and inserts it into a regular expression."""
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
    answer = json.loads(get(prometheus, f"/api/v1/label/{label}/values", **{"match[]": metric}))
    [value] = answer["data"]
    return value.replace(".", "\\\\.")


def substituted(query, values):
    for name, value in [*values.items(), ("__rate_interval", "30s")]:
        query = query.replace(f"${name}", value)
    assert "$" not in query, f"{query}: a variable that is not defined"
    return query


def dashboard_is_complete():
    """What Grafana's import requires; Grafana itself is not in Debian."""
    dashboard = json.loads((SHARE / "grafana.json").read_text())
    assert dashboard["schemaVersion"] >= 36, "since this version, a data source is a type and a uid"
    assert dashboard["title"] and dashboard["uid"] and "id" not in dashboard and "__inputs" not in dashboard
    [source] = variables(dashboard, "datasource")
    assert source["query"] == "prometheus"
    reference = {"type": "prometheus", "uid": f"${{{source['name']}}}"}
    for variable in variables(dashboard, "query"):
        assert variable["datasource"] == reference, variable
        assert variable["multi"] and variable["includeAll"] and variable["allValue"] == ".*", variable
    panels, cells = dashboard["panels"], {}
    identities = [panel["id"] for panel in panels]
    assert len(set(identities)) == len(panels), identities
    for panel in panels:
        title, place = panel["title"], panel["gridPos"]
        assert panel["type"] in {"stat", "timeseries", "bargauge", "table"}, f"{title}: {panel['type']}"
        assert panel["datasource"] == reference, title
        unit = panel["fieldConfig"]["defaults"].get("unit", "none")
        assert unit in {"none", "short", "s", "cps", "Bps"}, f"{title}: {unit}"
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references), title
        for target in panel["targets"]:
            assert target["datasource"] == reference, title
            for label, operator in re.findall(r'(\w+)(=~?|!~?=?)"\$', target["expr"]):
                assert operator == "=~", f"{title}: several values of {label} need =~"
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24, f"{title}: wider than 24 columns"
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])):
            assert cell not in cells, f"{title} covers {cells.get(cell)}"
            cells[cell] = title
    print(f"{len(panels)} panels of the dashboard have all that Grafana requires")


def dashboard_loads():
    """Each key is known to the types that Grafana generates from its own schemas, also those of the kinds of panels."""
    if importlib.util.find_spec("grafana_foundation_sdk") is None:
        return print("grafana-foundation-sdk: not installed; skipped")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()

    def lost(text):
        written = json.loads(text)
        return list(differences(written, json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(text))))))

    text = (SHARE / "grafana.json").read_text()
    assert not lost(text), lost(text)
    for right, wrong in [('"gridPos"', '"gridPosition"'), ('"reduceOptions"', '"reduceOption"'), ('"expr"', '"query"')]:
        assert lost(text.replace(right, wrong, 1)), f"{wrong} is not noticed"
    print("the dashboard has only keys that Grafana knows")


def differences(written, read, place="dashboard"):
    """The places whose value was not read."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from differences(value, read.get(key), f"{place}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, pair in enumerate(zip(written, read)):
            yield from differences(*pair, f"{place}[{index}]")
    elif written != read:
        yield place


def alerts_are_raised(prometheus):
    expected = set(re.findall(r"alert: (\w+)", (SHARE / "alerts.yml").read_text()))

    # It takes 65,536 clients to fill a table, and a reader that stops to drop lines.
    simulated = {"PortcullisTableFull", "PortcullisLogLinesDropped"}

    def raised():
        groups = json.loads(get(prometheus, "/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert all(rule["health"] == "ok" for rule in rules), [rule.get("lastError") for rule in rules]
        quiet = expected - simulated - {rule["name"] for rule in rules if rule["state"] != "inactive"}
        assert not quiet, f"not raised: {sorted(quiet)}"
        return rules

    rules = eventually("alerts", raised)
    for rule in rules:
        for alert in rule["alerts"]:
            text = " ".join(alert["annotations"].values())
            assert "<no value>" not in text and "error" not in text, text
    print(f"{len(expected - simulated)} alerts are raised by what they are for")


def alerts_follow_series(folder):
    """Runs alerts that no traffic here raises over series that are written out."""
    series = {
        "PortcullisTableFull": 'portcullis_table_full_total{job="j", instance="i", table="rate"}',
        "PortcullisLogLinesDropped": 'portcullis_log_lines_dropped_total{job="j", instance="i"}',
    }

    def test(alert, values, fires):
        labels = dict(re.findall(r'(\w+)="(\w+)"', series[alert]))
        expected = [{"exp_labels": labels | {"severity": "warning"}}] if fires else []
        return {"interval": "1m", "input_series": [{"series": series[alert], "values": values}],
                "alert_rule_test": [{"eval_time": "15m", "alertname": alert, "exp_alerts": expected}]}

    tests = [test(alert, *case) for alert in series for case in [("0+3x20", True), ("7+0x20", False)]]
    rules = (SHARE / "alerts.yml").read_text()
    # Without the texts, which promtool would compare too.
    (folder / "alerts.yml").write_text(re.sub(r"(?m)^ +(annotations|summary|description):.*\n", "", rules))
    (folder / "tests.yml").write_text(json.dumps({"rule_files": ["alerts.yml"], "tests": tests}))
    run("promtool", "test", "rules", folder / "tests.yml", cwd=folder)
    print(f"{len(series)} alerts are raised by series, and stay quiet without a change")


def main():
    dashboard_is_complete()
    dashboard_loads()
    if absent := missing():
        return print(f"{', '.join(absent)}: not installed; skipped")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = Path(sys.argv[1]) if len(sys.argv) > 1 else target / "debug/portcullis"
    names = ["admin", "tls", "observed", "denied", "small", "lost", "retried", "closed", "prometheus"]
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        listener = running.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        ports = free_ports(names) | {"echo": listener.getsockname()[1]}
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "5",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", folder / "key.pem", "-out", folder / "chain.pem")
        gate, rules = folder / "gate.toml", SHARE.resolve() / "alerts.yml"
        gate.write_text(CONFIG.format(**ports))
        (folder / "prometheus.yml").write_text(PROMETHEUS.format(rules=rules, **ports))
        print(run("promtool", "check", "config", folder / "prometheus.yml").strip())
        alerts_follow_series(folder)

        log = folder / "portcullis.log"
        process = running.enter_context(program(log, binary, "run", "--config", gate))
        try:
            eventually("the admin interface", lambda: get(ports["admin"], "/livez"))
            running.enter_context(program(
                folder / "prometheus.log", "prometheus", f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{ports['prometheus']}"))
            for _ in range(2):  # as many as the listener takes
                held = running.enter_context(socket.create_connection(("127.0.0.1", ports["small"])))
                held.sendall(b"x")
                assert held.recv(1) == b"x"
            stop = threading.Event()
            failed = []
            load = threading.Thread(target=lambda: failed.append(attempt(traffic, ports, stop)))
            load.start()
            running.callback(stop.set)
            # A file that is reloaded, then one that is wrong.
            eventually("a scrape", lambda: select(ports["prometheus"], 'up{job="portcullis"} == 1'))
            process.send_signal(signal.SIGHUP)
            eventually("a reload", lambda: "reloaded" in log.read_text())
            gate.write_text("version = 7\n")
            process.send_signal(signal.SIGHUP)
            metrics_are_clean(ports["admin"])
            open_metrics_are_strict(ports["admin"])
            bounds_are_the_same(ports["prometheus"])
            dashboard_has_data(ports["prometheus"])
            alerts_are_raised(ports["prometheus"])
            stop.set()
            load.join()
            assert failed == [None], failed
        except BaseException:
            print(log.read_text()[-3000:], file=sys.stderr)
            raise


def attempt(function, *arguments):
    """The error of a thread, for the one that waits for it."""
    try:
        function(*arguments)
    except BaseException as error:
        return error


if __name__ == "__main__":
    main()
