"""Which of this server's doors a packet from anywhere can be expected to open."""

from __future__ import annotations

from .engine import Look
from .rules import Rules, said
from .server import Reach
from .ssh import find_ssh_ports


def managed(look: Look, addresses: list[str]) -> list[str]:
    """The addresses whose family ufw sees to: with IPV6=no it shuts the other one, and the firewall's step says so."""
    ours = look.answers.firewall.manage and not look.server.firewall().defaults.ipv6
    return [one for one in addresses if not (ours and ":" in one)] or addresses


def let_in_some(look: Look, shut: list[Reach]) -> str:
    """The operator's rule by which some reach SSH, where that is all that stays silent; "" where it is not."""
    rules, ssh = Rules(look, look.server.firewall()), find_ssh_ports(look).ports
    if any(one.state != "filtered" or one.target.port not in ssh for one in shut):
        return ""
    found = [rules.some_are_let_in(one.target.port, "tcp") for one in shut]
    return said(found[0][0]) if all(found) else ""
