#!/usr/bin/env python3
"""Talks to the example `tonic` with grpcio: a unary call and a bidirectional stream with a pause.

    python3 tests/grpc_client.py PORT [CERTIFICATE] [PAUSE]

With a certificate (PEM) the call goes over TLS and trusts only that; with none (or "-") over plaintext.
PAUSE is how many seconds the stream is silent in the middle, one by default. The exit code is 0 when
all went well, 1 when not, and 77 when grpcio is not installed (`pip install grpcio`).

The messages are encoded by hand: each is a single string, and no code has to be generated."""

import re
import sys
import threading
import time

SECONDS = 10
SKIPPED = 77
STRING_IN_FIELD_1 = 1 << 3 | 2


def encode(text):
    data = text.encode()
    length, rest = [], len(data)
    while rest > 127:  # seven bits to a byte, the lowest first
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([STRING_IN_FIELD_1, *length, rest]) + data


def decode(message):
    assert message[0] == STRING_IN_FIELD_1, message[:10]
    text = re.sub(rb"^[\x80-\xff]*[\x00-\x7f]", b"", message[1:], count=1).decode()
    assert encode(text) == message
    return text


def connect(grpc, port, certificate):
    target = f"127.0.0.1:{port}"
    # What the environment says of proxies is not for loopback.
    options = [("grpc.enable_http_proxy", 0)]
    if certificate is None:
        return grpc.insecure_channel(target, options)
    with open(certificate, "rb") as pem:
        credentials = grpc.ssl_channel_credentials(root_certificates=pem.read())
    return grpc.secure_channel(target, credentials, options)


def check(port, certificate=None, pause=1.0):
    """Raises when the server does not answer as it should."""
    import grpc

    def greets(answer, name):
        assert re.fullmatch(rf"Hello {name} from 127\.0\.0\.1:\d+!", answer), answer

    with connect(grpc, port, certificate) as channel:
        hello = channel.unary_unary("/greeter.Greeter/Hello", encode, decode)
        answer = hello("unary", timeout=SECONDS)
        greets(answer, "unary")
        # Many at once, over one connection.
        calls = [hello.future(f"number{n}", timeout=SECONDS) for n in range(20)]
        for n, call in enumerate(calls):
            greets(call.result(), f"number{n}")

        def names():
            yield "first"
            time.sleep(pause)
            yield "second"

        chat = channel.stream_stream("/greeter.Greeter/Chat", encode, decode)
        answers = list(chat(names(), timeout=SECONDS + pause))
        greets(answers[0], "first")
        greets(answers[1], "second")
        assert answers[2:] == ["Good-bye!"], answers

        try:
            channel.unary_unary("/greeter.Greeter/Nothing")(b"", timeout=SECONDS)
            raise AssertionError("a method that is not there was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

        # A stream beyond the windows of flow control, there and back again.
        long = "x" * 20_000
        answers = list(chat((long for _ in range(200)), timeout=SECONDS))
        assert len(answers) == 201 and all(long in answer for answer in answers[:-1])


def check_end(port, certificate, stop):
    """Raises when a stream that is open does not end well after `stop()`, which ends the server."""
    import grpc

    with connect(grpc, port, certificate) as channel:
        silence = threading.Event()

        def names():
            yield "first"
            silence.wait(SECONDS)

        chat = channel.stream_stream("/greeter.Greeter/Chat", encode, decode)
        answers = chat(names(), timeout=SECONDS)
        assert "Hello first" in next(answers)
        stop()
        assert list(answers) == ["Good-bye!"]
        assert answers.code() == grpc.StatusCode.OK
        silence.set()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        import grpc
    except ImportError:
        print("skipped: grpcio is not installed (pip install grpcio)")
        sys.exit(SKIPPED)
    certificate = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] != "-" else None
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
    over = "TLS" if certificate else "plaintext"
    try:
        check(int(sys.argv[1]), certificate, pause)
    except (AssertionError, OSError, grpc.RpcError) as error:
        print(f"FAILED: gRPC over {over}: {type(error).__name__}: {error}")
        sys.exit(1)
    print(f"ok: gRPC over {over} with grpcio {grpc.__version__}")


if __name__ == "__main__":
    main()
