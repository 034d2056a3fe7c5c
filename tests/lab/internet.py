"""The gate: the lab's own internet. Names, and web servers on ports 80 and 443 of its address."""

import os
import signal
import subprocess
from pathlib import Path

from tests.lab.archive import ARCHIVE, CLOUDSMITH, Internet, caddy_binary
from tests.lab.machine import CommandFailed
from tests.lab.space import GATE, GATE6, Deadline, Space, children

CADDYFILE = """\
{{
	admin off
	auto_https off
	persist_config off
	servers {{
		protocols h1 h2
	}}
}}
(site) {{
	bind {gate} {gate6}
	log {{
		output file {files}/{{args[0]}}.log
	}}
	root * {root}/{{args[0]}}
	file_server
}}
https://{cloudsmith} {{
	tls {internet}/server.pem {internet}/server.key
	import site {cloudsmith}
}}
http://{archive} {{
	import site {archive}
}}
"""


class Gate:
    """What the hosts find on their network. `root` is writable: a copy per lab, of one directory per name."""

    def __init__(self, space: Space, internet: Internet) -> None:
        self._space = space
        self.internet = internet
        self.files = space.files / "gate"
        self._disk = space.disk / "gate"
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def root(self) -> Path:
        """Directories named as the web servers are; change files here to change what the servers answer."""
        return self._space.inside(self._disk / "root")

    def open(self) -> None:
        """Start the name server and the web server; returns when both answer."""
        (self.files / "names").mkdir(parents=True)
        self._space.run(["sh", "-c", OVERLAY, "sh", self.internet.path, self._disk])
        self.name(CLOUDSMITH, GATE, GATE6)
        self.name(ARCHIVE, GATE, GATE6)
        self._start(
            "dnsmasq",
            *(
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
                "--pid-file=",
                "--no-resolv",
                "--no-hosts",
            ),
            *(f"--listen-address={GATE}", f"--listen-address={GATE6}", "--bind-interfaces", "--address=/#/"),
            *(f"--hostsdir={self.files / 'names'}", "--log-queries", "--log-facility=-", "--local-ttl=1"),
        )
        caddyfile = CADDYFILE.format(
            gate=GATE,
            gate6=f"[{GATE6}]",
            root=self._disk / "root",
            internet=self.internet.path,
            files=self.files,
            cloudsmith=CLOUDSMITH,
            archive=ARCHIVE,
        )
        (self.files / "Caddyfile").write_text(caddyfile)
        home = f"XDG_DATA_HOME={self.files}"
        self._start(
            "env", home, str(caddy_binary()), "run", "--adapter", "caddyfile", "--config", str(self.files / "Caddyfile")
        )
        until = Deadline("the gate's servers", 20)
        wanted = {f"{GATE}:53", f"{GATE}:80", f"{GATE}:443"}
        while not wanted <= set(self._space.run(["ss", "-Hltn"]).stdout.split()):
            if any(process.poll() is not None for process in self._processes):
                raise CommandFailed(f"a server of the gate ended: {self.log()[-2000:]}")
            until.tick()

    def _start(self, *argv: str) -> None:
        log = (self.files / f"{Path(argv[2] if argv[0] == 'env' else argv[0]).name}.log").open("wb")
        with log:
            self._processes.append(
                subprocess.Popen(
                    self._space.enter(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            )

    def name(self, name: str, *addresses: str) -> None:
        """Let a name point to these addresses (none: it stops to exist), from now on."""
        place = self.files / "names" / name
        place.write_text("".join(f"{address} {name}\n" for address in addresses))
        for process in self._processes[:1]:  # dnsmasq sees new files by itself, but keeps old names until told
            for pid in children(process.pid):
                os.kill(pid, signal.SIGHUP)

    def requests(self, name: str) -> list[str]:
        """The web server's access log for a name: one JSON document a line."""
        log = self.files / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def log(self) -> str:
        """What the gate's own servers said."""
        return "".join((self.files / f"{name}.log").read_text(errors="replace") for name in ("dnsmasq", "caddy"))

    def close(self) -> None:
        """Forget the processes; the namespaces' end has ended them."""
        for process in self._processes:
            process.wait()
        self._processes.clear()


OVERLAY = """\
mkdir -p "$2/root" "$2/upper" "$2/work"
mount -t overlay lab -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
"""
