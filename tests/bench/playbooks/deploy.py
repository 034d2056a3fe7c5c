"""The guide's work as a pyinfra deploy, as one would write it: nothing is done where nothing is to be done."""

import os

from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.asc"
STABLE = "https://dl.cloudsmith.io/public/caddy/stable"

apt.packages(packages=["debian-keyring", "debian-archive-keyring", "apt-transport-https", "curl"])
files.download(src=f"{STABLE}/gpg.key", dest=KEYRING, mode="644")
repository = files.line(
    path="/etc/apt/sources.list.d/caddy-stable.list",
    line=f"deb [signed-by={KEYRING}] {STABLE}/deb/debian any-version main",
)
apt.update(_if=repository.did_change)
apt.packages(packages=["caddy"])
rules = host.get_fact(Command, "ufw status || true")
for port in ("22/tcp", "443/tcp"):
    if port not in rules:
        server.shell(commands=[f"ufw allow {port}"])
if "Status: active" not in rules:
    server.shell(commands=["ufw --force enable"])
script = files.replace(path="/opt/vllm/start-vllm.sh", text=r"--host 0\.0\.0\.0", replace="--host 127.0.0.1")
systemd.service(service="vllm", restarted=True, _if=script.did_change)
server.shell(commands=["until curl -sf -o /dev/null http://127.0.0.1:8000/health; do sleep 0.1; done"])
caddyfile = files.template(src="Caddyfile", dest="/etc/caddy/Caddyfile", mode="644", address=os.environ["ADDRESS"])
systemd.service(service="caddy", running=True, enabled=True)
systemd.service(service="caddy", reloaded=True, _if=caddyfile.did_change)
