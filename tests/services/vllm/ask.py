"""Run inside a network namespace: ask a server for routes and print their statuses as JSON.

    python ask.py HOST PORT '{"routes": [["GET", "/health"]], "body": {}}'

Written on a socket, as clients mend paths that are meant to be wrong. A server that closes instead is a 400.
"""

import json
import socket
import sys


def ask(host: str, port: int, method: str, path: str, body: bytes) -> int:
    """The status of one request."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        answer = connection.makefile("rb").readline().split()
    return int(answer[1]) if len(answer) > 1 else 400


if __name__ == "__main__":
    asked = json.loads(sys.argv[3])
    content = json.dumps(asked["body"]).encode()
    print(json.dumps([ask(sys.argv[1], int(sys.argv[2]), *route, content) for route in asked["routes"]]))
