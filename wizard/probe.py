"""Runs alone inside a fresh network namespace: tries TCP connections, prints JSON. Standard library only.

probe.py INTERFACE SECONDS ADDRESS,PORT … -> [[state, detail, milliseconds], …] in the order of the targets.
"""

import errno
import json
import selectors
import socket
import sys
import time
from pathlib import Path


def wait_for_carrier(interface: str, until: float) -> None:
    """The pair's other end is joined by the parent: before that there is nothing to send by."""
    while time.monotonic() < until:
        flags = {line.split()[0] for line in Path("/proc/net/route").read_text().splitlines()[1:]}
        if interface in flags:
            return
        time.sleep(0.002)


def state_of(code: int) -> tuple[str, str]:
    """TCP's answer as a firewall reads it: a reset is refused, silence and ICMP prohibitions are filtered."""
    if code == 0:
        return "open", ""
    if code == errno.ECONNREFUSED:
        return "refused", ""
    if code in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM):
        return "filtered", errno.errorcode[code]
    return "unknown", errno.errorcode.get(code, str(code))


def try_all(targets: list[tuple[str, int]], patience: float) -> list[tuple[str, str, float]]:
    selector = selectors.DefaultSelector()
    found: list[tuple[str, str, float]] = [("filtered", "no answer", patience * 1000)] * len(targets)
    began = time.monotonic()
    for number, (address, port) in enumerate(targets):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        code = connection.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            selector.register(connection, selectors.EVENT_WRITE, number)
        else:
            found[number] = (*state_of(code), 0.0)
            connection.close()
    while selector.get_map() and (left := began + patience - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            answered = key.fileobj
            assert isinstance(answered, socket.socket)
            code = answered.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[key.data] = (*state_of(code), round((time.monotonic() - began) * 1000, 2))
            selector.unregister(answered)
            answered.close()
    return found


def main(interface: str, patience: str, *targets: str) -> None:
    wait_for_carrier(interface, time.monotonic() + 5)
    pairs = [(address, int(port)) for address, port in (target.rsplit(",", 1) for target in targets)]
    print(json.dumps(try_all(pairs, float(patience))))


if __name__ == "__main__":
    main(*sys.argv[1:])
