"""The states of a server that are recorded, each with what it protects and what a plan has to find there."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.lab import File, Server, ServerSpec
from tests.lab.spec import CANARY, more_vllm
from tests.servers import preflight_states
from tests.servers.state import (
    BIND,
    CADDY,
    FIREWALL,
    FRESH,
    NO_CADDY,
    NOT_SET_UP,
    PROGRAM,
    TLS,
    State,
    applied,
    apply,
    commands,
)

STOP_INSIDE = """\
import sys
from dataclasses import replace
from wizard import answers, paths
from wizard.engine import NoWatcher, walk
from wizard.session import Session
from wizard.steps import STEPS
from wizard.system import find_operator

class Killed(BaseException):
    pass

class Kill(NoWatcher):
    def action_ended(self, step, action, output):
        assert output.ok, output
        if getattr(action, "argv", ())[:3] == ("ufw", "--force", "enable"):
            raise Killed

session = Session(answers.load(sys.stdin.buffer.read()), operator=find_operator())
try:
    walk(STEPS, session.look, Kill())
except Killed:
    pass
"""
# A client as programs are: its connection stays, with a request now and then. It ends with the server.
CLIENT = """\
import contextlib, http.client, sys, time
client = http.client.HTTPConnection(sys.argv[1], 8000, timeout=5)
with contextlib.suppress(OSError):
    while True:
        client.request("GET", "/v1/models")
        client.getresponse().read()
        print("answered", flush=True)
        time.sleep(1)
"""


def killed_in_firewall(server: Server, answers: str) -> None:
    """An apply that ends where ufw has just been enabled, and nothing is proved yet."""
    server.put("/root/stop.py", STOP_INSIDE.encode())
    server.ssh(f"sudo {PROGRAM} -I /root/stop.py", stdin=answers.encode(), timeout=60)
    server.run(["rm", "/root/stop.py"])


def connect_client(server: Server, answers: str) -> None:
    """A client of vLLM on the machine outside, connected from now on."""
    client = server.outside_popen([sys.executable, "-I", "-c", CLIENT, server.address])
    assert client.stdout is not None and client.stdout.readline()


PYTHON_ON_80 = """\
[Service]
ExecStart=/usr/bin/python3 -m http.server 80
[Install]
WantedBy=multi-user.target
"""
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
SCRIPT = "/opt/vllm/start-vllm.sh"
LOOPBACK = f"sed -i 's/--host [0-9.]*/--host 127.0.0.1/' {SCRIPT}"
# A site of the operator, on a server where this program never was.
OTHERS = (
    "own=$(hostname -I | cut -d' ' -f1)",
    'printf "{\\n\\tdefault_sni $own\\n\\tfallback_sni $own\\n}\\n" >/etc/caddy/Caddyfile',
    "printf 'https://other.example.com {\\n\\ttls internal\\n\\trespond hello\\n}\\n' >>/etc/caddy/Caddyfile",
    "systemctl reload caddy.service",
    "rm -r /etc/vllm-https-setup /var/lib/vllm-https-setup /var/log/vllm-https-setup",
)
RULES = (
    "allow 22/tcp",
    "allow from 10.0.0.0/8 to any port 9100 proto tcp comment node",
    "limit 2200/tcp",
    "deny 25/tcp",
    "allow 6000:6007/udp",
    "reject from 203.0.113.9",
)

SECOND = ServerSpec(files=more_vllm("embed", 8001, CANARY))
EMBED = {"unit": "vllm-embed.service", "path": "embed"}
START_SECOND = (
    "systemctl enable -q --now vllm-embed.service",
    "until ss -Hltn | grep -q :8001; do sleep 0.1; done",
)


def start_and_apply(server: Server, answers: str) -> None:
    commands(*START_SECOND)(server, answers)
    apply(server, answers)


STATES: dict[str, State] = {
    "exposed": State(
        "The guide's exact state: vLLM on all interfaces, ufw off, no Caddy. Everything is to be done.",
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "clients-connected": State(
        "A client on another machine uses vLLM's port: it is named, for it will need the new address.",
        prepare=connect_client,
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "exposed-ipv6": State(
        "vLLM on ::, which is every IPv4 address too.",
        ServerSpec(vllm_host="::"),
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "half-done": State(
        "The firewall is right already, vLLM still listens on all interfaces: only the rest is done.",
        ServerSpec(ufw_rules=("allow 22/tcp", "allow 443/tcp"), ufw_enabled=True),
        drift=(*BIND, *CADDY, *TLS),
        failing=NO_CADDY,
    ),
    "finished": State("After an apply nothing is to be done, and every row passes.", prepare=applied(), untried=()),
    "vllm-stopped": State(
        "vLLM is enabled but stopped: started and waited for.",
        prepare=commands("systemctl stop vllm.service"),
        drift=("preflight.vllm_unit", *FRESH),
        failing=NO_CADDY,
        untried=("api.chat", "api.stream", "net.closed"),
    ),
    "vllm-loading": State(
        "vLLM is loading its model: waited for, not blocked.",
        ServerSpec(load_seconds=3600),
        drift=("preflight.vllm_answers", *FRESH),
        failing=NO_CADDY,
        untried=("api.chat", "api.stream", "net.closed"),
        loads=False,
    ),
    "no-ufw": State(
        "ufw is not installed: it is, before the firewall is armed.",
        ServerSpec(ufw_installed=False),
        drift=("firewall.package", *FRESH),
        failing=NOT_SET_UP,
    ),
    "other-ssh-port": State(
        "sshd listens on 2222 alone: that port is allowed, and 22 is not.",
        ServerSpec(ssh_port=2222),
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "ssh-socket": State(
        "systemd holds sshd's listener: the port is found all the same.",
        ServerSpec(ssh_socket=True, ssh_port=2200),
        drift=FRESH,
        warn=("preflight.ssh_not_listening",),
        failing=NOT_SET_UP,
    ),
    "ufw-active-with-rules": State(
        "ufw is on with an operator's own rules: they stay, and only 443 is added.",
        ServerSpec(ufw_rules=RULES, ufw_enabled=True),
        drift=("firewall.https_port", "firewall.proof", "firewall.safety", *BIND, *CADDY, *TLS),
        failing=NO_CADDY,
    ),
    "ufw-incoming-allow": State(
        "ufw is on, but lets everything in by default: set to deny.",
        ServerSpec(ufw_rules=("default allow incoming",), ufw_enabled=True),
        drift=(
            *("firewall.https_port", "firewall.incoming", "firewall.proof", "firewall.safety", "firewall.ssh_port"),
            *(*BIND, *CADDY, *TLS),
        ),
        failing=NOT_SET_UP,
    ),
    "ufw-denies-443": State(
        "A rule of the operator denies 443: theirs to decide, so nothing is changed.",
        ServerSpec(ufw_rules=("deny 443/tcp",)),
        drift=("firewall.enabled", "firewall.proof", "firewall.safety", "firewall.ssh_port"),
        blocked=("firewall.denied",),
        failing=NOT_SET_UP,
    ),
    "ufw-denies-ssh": State(
        "A rule of the operator denies SSH: ufw is not switched on, which would lock everybody out.",
        ServerSpec(ufw_rules=("deny 22/tcp",)),
        drift=("firewall.enabled", "firewall.https_port", "firewall.proof", "firewall.safety"),
        blocked=("firewall.denied",),
        failing=NOT_SET_UP,
    ),
    "script-edited-not-restarted": State(
        "The launch script says loopback, and vLLM was never restarted: restarted, not edited.",
        prepare=commands(LOOPBACK),
        drift=(*FIREWALL, "bind.listener", *CADDY, *TLS),
        failing=NOT_SET_UP,
    ),
    "script-says-all-not-restarted": State(
        "vLLM listens on loopback, and its script says 0.0.0.0: edited, not restarted.",
        ServerSpec(vllm_host="127.0.0.1"),
        prepare=commands(f"sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' {SCRIPT}"),
        drift=(*FIREWALL, "bind.launch_script", *CADDY, *TLS),
        failing=NO_CADDY,
    ),
    "caddy-stopped": State(
        "Caddy was stopped after the apply: started.",
        prepare=applied("systemctl stop caddy.service"),
        drift=("tls.running",),
        failing=NO_CADDY,
    ),
    "caddy-runs-older-config": State(
        "Caddy runs another configuration than its file says, as after a kill before the reload: reloaded.",
        prepare=applied(
            "cp -p /etc/caddy/Caddyfile /root/ours",
            "printf 'http://127.0.0.1:8081 {\\n\\trespond hello\\n}\\n' >>/etc/caddy/Caddyfile",
            "systemctl reload caddy.service",
            "cp -p /root/ours /etc/caddy/Caddyfile",
            "rm /root/ours",
        ),
        drift=("tls.running",),
        untried=(),
    ),
    "caddyfile-edited": State(
        "Our Caddyfile was edited by hand: ours again, the edit is kept.",
        prepare=applied("echo '# mine' >>/etc/caddy/Caddyfile"),
        drift=("tls.caddyfile",),
        untried=(),
    ),
    "caddyfile-edited-stop": State(
        "The same, where the answers say that an edit stops the run.",
        prepare=applied("echo '# mine' >>/etc/caddy/Caddyfile"),
        answers={"caddy": {"edited_config": "stop"}},
        blocked=("tls.caddyfile",),
        untried=(),
    ),
    "caddyfile-of-others": State(
        "Caddy serves another site, not made by this program: nothing is changed.",
        prepare=applied(*OTHERS),
        blocked=("tls.caddyfile",),
        failing=("api.blocked", "api.models", "api.unauthorized", "tls.handshake", "tls.trusted"),
    ),
    "caddyfile-of-others-kept": State(
        "The same, where the answers keep it: our site is imported into it, and theirs stays.",
        prepare=applied(*OTHERS),
        answers={"caddy": {"existing_config": "keep"}},
        drift=TLS,
        failing=("api.blocked", "api.models", "api.unauthorized", "tls.handshake", "tls.trusted"),
    ),
    "firewall-off-after-finish": State(
        "ufw was switched off after the apply: on again, with its rules as they are.",
        prepare=applied("ufw disable"),
        drift=("firewall.enabled", "firewall.proof", "firewall.safety"),
        untried=(),
    ),
    "root-missing": State(
        "The exported root certificate is gone: exported again.",
        prepare=applied("rm /etc/vllm-https-setup/root.crt"),
        drift=("tls.root",),
        failing=("api.blocked", "api.models", "api.unauthorized", "tls.handshake", "tls.trusted"),
    ),
    "killed-in-firewall": State(
        "A run was killed after ufw was enabled and before the proof: proved, and the undo disarmed.",
        prepare=killed_in_firewall,
        answers={"firewall": {"safety_seconds": 3600}},
        drift=("firewall.proof", "firewall.safety", *BIND, *CADDY, *TLS),
        failing=NO_CADDY,
    ),
    "key-refused": State(
        "The repository's key is not the pinned one: refused before anything is trusted.",
        answers={"caddy": {"key_fingerprint": "65760C51EDEA2017CEA2CA15155B6D79CA56EA34"}},
        drift=(*FIREWALL, *BIND),
        blocked=("caddy.keyring",),
        failing=NOT_SET_UP,
    ),
    "os-blocked": State(
        "Debian is not Ubuntu 24.04: nothing is changed.",
        ServerSpec(files={"/etc/os-release": File(DEBIAN.encode())}),
        blocked=("preflight.os",),
        failing=NOT_SET_UP,
    ),
    "no-key": State(
        "vLLM has no API key: nothing is changed.",
        ServerSpec(api_key=None),
        blocked=("preflight.api_key",),
        failing=NOT_SET_UP,
    ),
    "port-80-taken": State(
        "Another program listens on port 80: nothing is changed.",
        ServerSpec(files={"/etc/systemd/system/web.service": File(PYTHON_ON_80.encode())}),
        prepare=commands("systemctl start web.service"),
        blocked=("preflight.web_ports",),
        failing=NOT_SET_UP,
    ),
    "vllm-failed": State(
        "vLLM fails at its start: blocked, with its last words.",
        ServerSpec(standin={"fail": "start"}),
        blocked=("preflight.vllm_unit",),
        failing=NO_CADDY,
        untried=("api.chat", "api.stream", "net.closed"),
        loads=False,
    ),
    "vllm-disabled": State(
        "vLLM's unit is disabled: after a reboot there would be no API, so nothing is changed.",
        ServerSpec(vllm_enabled=False),
        blocked=("preflight.vllm_unit",),
        failing=NO_CADDY,
        untried=("api.chat", "api.stream", "net.closed"),
        loads=False,
    ),
    "other-listener": State(
        "Another socket of vLLM's control group listens on all interfaces: named, and closed by the firewall.",
        ServerSpec(standin={"extra_listeners": ["0.0.0.0:29500"]}),
        drift=FRESH,
        warn=("bind.other_listener",),
        failing=NOT_SET_UP,
    ),
    "several-services": State(
        "A second service with vLLM on another port, to be served under a path: both are bound and served.",
        SECOND,
        prepare=commands(*START_SECOND),
        answers={"vllm": {"more": [EMBED]}},
        drift=FRESH,
        failing=(*NOT_SET_UP, "api.blocked.embed", "api.models.embed", "api.unauthorized.embed"),
        untried=("api.chat", "api.chat.embed", "api.stream", "api.stream.embed"),
    ),
    "several-services-finished": State(
        "The same after an apply: nothing is to be done, and every row passes.",
        SECOND,
        prepare=start_and_apply,
        answers={"vllm": {"more": [EMBED]}},
        untried=(),
    ),
    "no-gpu": State(
        "No GPU answers: nothing is changed.",
        prepare=commands("rm $(command -v nvidia-smi)"),
        blocked=("preflight.gpu",),
        failing=NOT_SET_UP,
    ),
    **preflight_states.STATES,
}


def answers_of(state: State, fingerprint: str) -> str:
    """The answers that a state is looked at with, as JSON, which YAML 1.2 has in it; the lab's repository has a key."""
    answers: dict[str, Any] = {"version": 1, "tls": {"mode": "internal"}, "caddy": {"key_fingerprint": fingerprint}}
    for section, given in state.answers.items():
        answers[section] = {**answers.get(section, {}), **given}
    return json.dumps(answers)
