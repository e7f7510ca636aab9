"""HAProxy and nginx, in front of a gate and behind it."""

import ssl
from pathlib import Path

from processes import Example, Gate, Program, folder, need, wait_until
from sockets import connect, everything, free_port


def haproxy(path, port, frontend, service):
    program = need("haproxy")
    file = path / f"haproxy-{port}.cfg"
    file.write_text(f"""global
    maxconn 500
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen gate
    bind 127.0.0.1:{port}{frontend}
{service}
""")
    # SIGUSR1 would wait for connections.
    return Program([program, "-db", "-f", file], port=port)


def nginx(path, port, blocks):
    program = need("nginx")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {module};" if module.exists() else ""
    file = path / f"nginx-{port}.conf"
    file.write_text(f"""{load}
daemon off;
master_process off;
pid {path}/nginx-{port}.pid;
error_log {path}/nginx-{port}.log error;
events {{ worker_connections 200; }}
{blocks}
""")
    return Program([program, "-p", path, "-c", file, "-e", path / f"nginx-{port}.log"], port=port)


def get(stream, request=b"GET / HTTP/1.0\r\n\r\n"):
    """The body of the answer to a request by HTTP/1.0, and the address that this side has."""
    own = "{}:{}".format(*stream.getsockname())
    stream.sendall(request)
    head, _, body = everything(stream).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1"), head
    return body.decode().strip(), own


def proxies_in_front():
    """The client's address goes through HAProxy or nginx and the gate to an example that prints it.

    The gate reads the header and writes one of the other version, or forwards all without a look."""
    with Example("axum_behind_proxy") as server:
        for options in (["accept-proxy", "send-proxy-v2"], ["accept-proxy", "send-proxy-v1"], []):
            with Gate(server.port, *options) as gate:
                for name, port in balancers(gate):
                    body, own = get(connect(port))
                    assert body.startswith(f"hello, {own}, "), (options, name, body, own)
        with Gate(server.port, "accept-proxy") as gate:
            refuses_without_header(gate)


def balancers(gate):
    """Runs HAProxy and nginx in front of the gate, each with its name and port. They pass TLS through."""
    need("haproxy", "nginx")
    with folder() as path:
        for sends in ("send-proxy", "send-proxy-v2"):
            port = free_port()
            with haproxy(path, port, "", f"    mode tcp\n    server gate 127.0.0.1:{gate.port} {sends}"):
                yield f"HAProxy with {sends}", port
        port = free_port()
        server = f"server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{gate.port}; proxy_protocol on; }}"
        with nginx(path, port, f"stream {{ {server} }}"):
            yield "nginx", port


def refuses_without_header(gate):
    try:
        with gate.connect() as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = everything(stream)
    except (ConnectionError, ssl.SSLError):
        return
    assert answer == b"", f"an answer without a header: {answer}"


def proxies_behind():
    """HAProxy and nginx behind the gate, by plain TCP and by TLS, log and answer the client's address."""
    need("haproxy", "nginx")
    with folder() as path:
        port, log = free_port(), path / "access.log"
        service = """    mode http
    log stdout format raw local0
    log-format "client %ci:%cp"
    http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port]\""""
        with haproxy(path, port, " accept-proxy", service) as program:
            own = list(client_addresses(port))
            wait_until(lambda: all(f"client {address}" in program.output() for address in own), "HAProxy's log")
        port = free_port()
        stream = f"""stream {{
    log_format client '$proxy_protocol_addr:$proxy_protocol_port';
    access_log {log} client;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        return "HTTP/1.0 200 OK\\r\\n\\r\\n$proxy_protocol_addr:$proxy_protocol_port";
    }}
}}"""
        with nginx(path, port, stream):
            # It answers without a look at a request, and a request that it did not read would make it reset.
            own = list(client_addresses(port, request=b""))
            wait_until(lambda: all(address in log.read_text() for address in own), "nginx's log")


def client_addresses(port, **request):
    for options in (["send-proxy-v1"], ["send-proxy-v2"], ["send-proxy-v1", "tls"], ["send-proxy-v2", "tls"]):
        with Gate(port, *options) as gate:
            body, own = get(gate.connect(), **request)
            assert body == own, (options, body, own)
            yield own
