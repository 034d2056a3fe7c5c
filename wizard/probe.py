"""Runs alone inside a fresh network namespace: tries TCP connections, prints JSON. Standard library only.

probe.py SECONDS <targets -> [[state, detail, milliseconds], …] in the order of the targets: lines ADDRESS,PORT, with
`,expected` after it where an answer is.
"""

import errno
import fcntl
import json
import selectors
import socket
import struct
import sys
import time

Target = tuple[str, int, bool]
SIOCGIFFLAGS = 0x8913
IFF_UP = 0x1
ROUNDS = 5
# A hundred times what an answer takes. Thirty open ports of a family on a server with four busy processes for each of
# its cores were heard within 15 ms of one another, in 800 tries.
GRACE_S = 0.05


def wait_until_joined(until: float) -> None:
    """The parent gives this namespace its interface and routes, and last of all switches `lo` on (netdevice(7))."""
    request = struct.pack("16sH14x", b"lo", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        while time.monotonic() < until:
            (flags,) = struct.unpack_from("H", fcntl.ioctl(asked, SIOCGIFFLAGS, request), 16)
            if flags & IFF_UP:
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


def try_once(targets: list[Target], patience: float) -> list[tuple[str, str, float]]:
    """One SYN to each target, and what came back within `patience` seconds.

    The kernel answers all of a family's in the same moment, where it answers at all: once one has answered, GRACE_S is
    long enough for the others, but for those that are expected to. What has come by then counts, however late this
    program gets to see it.
    """
    selector = selectors.DefaultSelector()
    found: list[tuple[str, str, float]] = [("filtered", "no answer", 0.0)] * len(targets)
    began = time.monotonic()
    for number, (address, port, _) in enumerate(targets):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        code = connection.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            selector.register(connection, selectors.EVENT_WRITE, number)
        else:
            found[number] = (*state_of(code), 0.0)
            connection.close()
    until = dict.fromkeys((False, True), began + patience)
    while waiting := [targets[key.data] for key in selector.get_map().values()]:
        last = max(began + patience if one[2] else until[is_ipv6(one)] for one in waiting)
        left = last - time.monotonic()
        ready = selector.select(max(left, 0))
        if not ready and left <= 0:
            break
        for key, _ in ready:
            answered = key.fileobj
            assert isinstance(answered, socket.socket)
            code = answered.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            now = time.monotonic()
            found[key.data] = (*state_of(code), round((now - began) * 1000, 2))
            if found[key.data][0] in ("open", "refused"):
                until[is_ipv6(targets[key.data])] = min(began + patience, now + GRACE_S)
            selector.unregister(answered)
            answered.close()
    waited = round((time.monotonic() - began) * 1000, 2)
    for key in list(selector.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        found[key.data] = ("filtered", "no answer", waited)
        key.fileobj.close()
    return found


def try_all(targets: list[Target], patience: float) -> list[tuple[str, str, float]]:
    """Silence counts only where another target of the same family answered: a family's first packets may be lost,
    while the neighbours still look for each other."""
    found = try_once(targets, patience)
    for _ in range(ROUNDS - 1):
        heard = {is_ipv6(one) for one, (state, *_) in zip(targets, found, strict=True) if state in ("open", "refused")}
        unheard = [number for number, one in enumerate(targets) if is_ipv6(one) not in heard]
        if not unheard:
            break
        for number, answer in zip(unheard, try_once([targets[one] for one in unheard], patience), strict=True):
            found[number] = answer
    return found


def is_ipv6(target: Target) -> bool:
    return ":" in target[0]


def main(patience: str) -> None:
    targets = sys.stdin.read().split()
    if not targets:  # whoever started this has ended
        return
    wait_until_joined(time.monotonic() + 5)
    print(json.dumps(try_all([read(target) for target in targets], float(patience))))


def read(line: str) -> Target:
    address, port, *expected = line.split(",")
    return address, int(port), bool(expected)


if __name__ == "__main__":
    main(*sys.argv[1:])
