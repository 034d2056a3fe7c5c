"""The way between the gate and the hosts: ports that something on it blocks, and addresses that are translated."""

from pathlib import Path
from typing import Literal

from tests.lab.server import Server
from tests.lab.space import BRIDGE, FAR, GATE, PUBLIC_NET, Space

Block = Literal["silent", "refused"]
RULES = """\
table bridge lab
delete table bridge lab
table ip lab
delete table ip lab
table inet lab
delete table inet lab
table bridge lab {{
	chain blocked {{
		{blocked}
	}}
	chain forward {{
		type filter hook forward priority 0
		jump blocked
	}}
	chain output {{
		type filter hook output priority 0
		jump blocked
	}}
}}
table inet lab {{
	chain refused {{
		{refused}
	}}
	chain forward {{
		type filter hook forward priority 0
		jump refused
	}}
	chain output {{
		type filter hook output priority 0
		jump refused
	}}
}}
table ip lab {{
	chain translated {{
		{translated}
	}}
	chain from_others {{
		type nat hook prerouting priority -100
		jump translated
	}}
	chain from_here {{
		type nat hook output priority -100
		jump translated
	}}
	chain to_others {{
		type nat hook postrouting priority 100
		{outgoing}
	}}
}}
"""


class Way:
    """What the gate does to packets. All rules are the gate's own; no host knows of them."""

    def __init__(self, space: Space, root: Path) -> None:
        self._space = space
        self._root = root  # of a host's base: the gate uses the nft that is in there
        self._blocked: dict[tuple[Server, int], Block] = {}
        self._public: dict[str, Server] = {}

    def open(self) -> None:
        """Forward packets, and give the machine outside an address that hosts reach through the gate alone."""
        forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects"
        self._space.run(["sh", "-c", f"{forward}; echo 0 >/proc/sys/net/ipv4/conf/{BRIDGE}/send_redirects"])
        self.ip(f"route add {FAR}/32 dev {BRIDGE}")
        self.ip(f"addr add {FAR}/32 dev eth0\nroute add {PUBLIC_NET} via {GATE} src {FAR}", outside=True)

    def ip(self, batch: str, *, outside: bool = False) -> None:
        """Commands of ip(8), one a line."""
        self._space.run(["ip", "-batch", "-"], stdin=f"{batch}\n".encode(), outside=outside)

    def block(self, server: Server, port: int, how: Block = "silent") -> None:
        """Drop all packets to a TCP port of a host, as a cloud's firewall does.

        "refused" answers those of the gate itself (the CA's) with a reset, so that no one waits.
        """
        self._blocked[server, port] = how
        self._load()

    def unblock(self, server: Server, port: int) -> None:
        """Let them through again."""
        del self._blocked[server, port]
        self._load()

    def translate(self, public: str, server: Server) -> None:
        """1:1 NAT: a public IPv4 address whose packets reach the host. The host itself cannot use it (no hairpin)."""
        self._public[public] = server
        self.ip(f"route replace {public}/32 dev {BRIDGE}")
        self._load()

    def _load(self) -> None:
        blocked, refused = [], []
        for (server, port), how in self._blocked.items():
            for match in (f"ip daddr {server.address}", f"ip6 daddr {server.address6}"):
                blocked.append(f"{match} tcp dport {port} drop")
                if how == "refused":
                    refused.append(f"{match} tcp dport {port} reject with tcp reset")
        translated = [f"ip daddr {public} dnat to {server.address}" for public, server in self._public.items()]
        outgoing = [
            f"ip saddr {server.address} ip daddr != 10.91.0.0/16 snat to {public}"
            for public, server in self._public.items()
        ]
        rules = RULES.format(
            refused="\n\t\t".join(refused),
            blocked="\n\t\t".join(blocked),
            translated="\n\t\t".join(translated),
            outgoing="\n\t\t".join(outgoing),
        )
        self._space.run(["chroot", self._root, "nft", "-f", "-"], stdin=rules.encode())
