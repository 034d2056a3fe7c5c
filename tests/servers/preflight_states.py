"""States in which preflight has something to say: units, keys, packages, and other programs that rule packets."""

from __future__ import annotations

from tests.lab import File, ServerSpec
from tests.servers.state import FRESH, NOT_SET_UP, State, applied, commands

# A unit as careful operators write it: every list of it may hold more than one, and what may be missing is missing.
HARDENED = """\
[Unit]
Description=vLLM
StartLimitIntervalSec=0
[Service]
Type=exec
User=vllm
Group=vllm
WorkingDirectory=/opt/vllm
Environment=HF_HUB_OFFLINE=1 "VLLM_LOGGING_LEVEL=WARNING"
EnvironmentFile=-/etc/default/vllm
EnvironmentFile=/etc/vllm/vllm.env
EnvironmentFile=-/etc/vllm/local.env
ExecStartPre=/usr/bin/test -r /opt/vllm/start-vllm.sh
ExecStartPre=-/bin/mkdir -p /tmp/vllm
ExecStart=/bin/bash -euo pipefail /opt/vllm/start-vllm.sh
Restart=always
NoNewPrivileges=yes
ProtectSystem=full
[Install]
WantedBy=multi-user.target
"""
DROP_IN = """\
[Service]
Environment=VLLM_NO_USAGE_STATS=1
Environment=\\
  DO_NOT_TRACK=1
"""
TEMPLATE = """\
[Service]
User=vllm
EnvironmentFile=/etc/vllm/%i.env
ExecStart=/opt/vllm/start-vllm.sh
[Install]
WantedBy=multi-user.target
"""
# As the images of one provider come: SSH is let in, all else refused, by rules that are before any of ufw's.
REFUSE_ALL = (
    "iptables -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT",
    "iptables -A INPUT -i lo -j ACCEPT",
    "iptables -A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT",
    "iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited",
)
NFTABLES = """\
table inet filter {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 25 counter drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
}
"""
# All that a careful person lets in, and not yet HTTPS.
NFTABLES_REFUSE = """\
table inet mine {
	chain incoming {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport { 22, 8000 } accept
	}
}
"""
# One port for everybody, and one for this server alone; the image is busybox itself.
PUBLISH = (
    "tar -c -C / bin/busybox | docker import - box >/dev/null",
    "docker run -d --name web -p 3306:80 box /bin/busybox httpd -f -p 80",
    "docker run -d --name own -p 127.0.0.1:6379:80 box /bin/busybox httpd -f -p 80",
)
DOCKER = ("docker.io", "busybox-static")
DIVERT = "dpkg-divert --quiet --local --divert /usr/bin/caddy.default --rename /usr/bin/caddy"
# Holds apt's locks as a long upgrade does.
HOLDER = (
    "import fcntl, signal; held = [open(path, 'w') for path in ('/var/lib/dpkg/lock-frontend', '/var/lib/dpkg/lock')]; "
    "[fcntl.lockf(file, fcntl.LOCK_EX) for file in held]; print('held', flush=True); signal.pause()"
)

STATES: dict[str, State] = {
    "ssh-on-two-ports": State(
        "sshd listens on two ports: both are allowed, for who knows which one people come by.",
        ServerSpec(files={"/etc/ssh/sshd_config.d/ports.conf": File(b"Port 22\nPort 2222\n")}),
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "vllm-hardened": State(
        "A unit with more than the guide's: lists, missing optional files, a shell's options, a drop-in.",
        ServerSpec(
            files={
                "/etc/systemd/system/vllm.service": File(HARDENED.encode()),
                "/etc/systemd/system/vllm.service.d/own.conf": File(DROP_IN.encode()),
            }
        ),
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "vllm-template": State(
        "An instance of a template, named in the answers.",
        prepare=commands(
            "systemctl disable -q --now vllm.service",
            "rm /etc/systemd/system/vllm.service",
            "mv /etc/vllm/vllm.env /etc/vllm/phi.env",
            f"printf '%s' '{TEMPLATE}' >/etc/systemd/system/vllm@.service",
            "systemctl enable -q --now vllm@phi.service",
            "until ss -Hltn | grep -q :8000; do sleep 0.1; done",
        ),
        answers={"vllm": {"unit": "vllm@phi.service"}},
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "key-on-command-line": State(
        "The launch script hands the key to vLLM as an argument: warned, for every user can list it.",
        ServerSpec(vllm_arguments='--api-key "$VLLM_API_KEY"'),
        drift=FRESH,
        warn=("preflight.key_on_command_line",),
        failing=NOT_SET_UP,
    ),
    "many-warnings": State(
        "What does not stop the work, and is told: the clock, vLLM's version and its switches, apt's own proxy.",
        ServerSpec(
            standin={"version": "0.11.0"},
            vllm_environment={"VLLM_SERVER_DEV_MODE": "1"},
            files={
                "/usr/local/bin/timedatectl": File(b"#!/bin/sh\necho NTPSynchronized=no\n", 0o755),
                "/etc/apt/apt.conf.d/95proxy": File(b'Acquire::http::Proxy "http://proxy.lab:3128";\n'),
            },
        ),
        drift=FRESH,
        warn=("preflight.clock", "preflight.vllm_switch", "preflight.vllm_version"),
        failing=NOT_SET_UP,
    ),
    "apt-locked": State(
        "Another program holds apt's locks: it is named, and waited for when it comes to that.",
        prepare=commands(f'systemd-run -q --unit=upgrade --service-type=exec python3 -c "{HOLDER}"', "sleep 0.5"),
        drift=FRESH,
        failing=NOT_SET_UP,
    ),
    "apt-source-broken": State(
        "A file of apt's sources can't be read: apt does nothing at all, so nothing is changed.",
        ServerSpec(files={"/etc/apt/sources.list.d/old.list": File(b"deb http://old.example.com/ubuntu noble\n")}),
        blocked=("preflight.apt_sources",),
        failing=NOT_SET_UP,
    ),
    "ufw-held": State(
        "ufw is not installed, and held: apt would refuse it in the middle of the work, so nothing is begun.",
        ServerSpec(ufw_installed=False),
        prepare=commands("apt-get update -q", "apt-mark hold ufw"),
        blocked=("preflight.held",),
        failing=NOT_SET_UP,
    ),
    "own-rules-refuse": State(
        "Rules of the server's own refuse all but SSH, and come before ufw's: 443 would stay closed.",
        prepare=commands(*REFUSE_ALL),
        blocked=("preflight.own_rules",),
        failing=NOT_SET_UP,
    ),
    "nftables-own-table": State(
        "A table of nftables acts beside ufw: named.",
        prepare=commands(f"nft -f - <<'END'\n{NFTABLES}END"),
        drift=FRESH,
        warn=("preflight.nftables",),
        failing=NOT_SET_UP,
    ),
    "forwards-for-virtual-machines": State(
        "The server passes packets on for its virtual machines: ufw's default would end that.",
        prepare=commands(
            "ip link add virbr0 type bridge",
            "ip address add 192.168.122.1/24 dev virbr0",
            "ip link set virbr0 up",
            "sysctl -qw net.ipv4.ip_forward=1",
        ),
        drift=FRESH,
        warn=("preflight.forwarding",),
        failing=NOT_SET_UP,
    ),
    "nginx-on-both-ports": State(
        "nginx has ports 80 and 443, which Caddy needs: it is named, with how it is stopped.",
        ServerSpec(packages=("nginx",)),
        prepare=commands(
            "sed -i 's/listen 80 default_server;/& listen 443;/' /etc/nginx/sites-enabled/default",
            "systemctl restart nginx",
        ),
        blocked=("preflight.web_ports",),
        failing=NOT_SET_UP,
    ),
    "docker-publishes": State(
        "Docker leads a published port past ufw: warned, and not called closed; its other one is this server's alone.",
        ServerSpec(packages=DOCKER),
        prepare=commands(*PUBLISH),
        drift=FRESH,
        warn=("preflight.published_ports",),
        failing=NOT_SET_UP,
    ),
    "firewalld-runs": State(
        "firewalld rules the firewall: it and ufw would undo each other's work, so nothing is begun.",
        ServerSpec(packages=("firewalld",)),
        blocked=("preflight.firewalld",),
        failing=NOT_SET_UP,
    ),
    "iptables-persistent": State(
        "Packages load rules at boot, and apt would remove them for ufw: that is the operator's to decide.",
        ServerSpec(ufw_installed=False, packages=("iptables-persistent",)),
        blocked=("preflight.netfilter_persistent",),
        failing=NOT_SET_UP,
    ),
    "nftables-refuses-443": State(
        "A table of nftables lets in SSH and vLLM alone: 443 would stay closed, whatever ufw says.",
        prepare=commands(f"nft -f - <<'END'\n{NFTABLES_REFUSE}END"),
        blocked=("preflight.nftables",),
        failing=NOT_SET_UP,
    ),
    "caddy-of-the-distribution": State(
        "The distribution's own Caddy, years old, serves its first page: it is upgraded, and it is said why.",
        ServerSpec(packages=("caddy",)),
        drift=(*FRESH, "caddy.prerequisites"),
        failing=NOT_SET_UP,
    ),
    "caddy-diverted": State(
        "A build of the operator's own stands in the place of the package's program: told, and left there.",
        prepare=applied(DIVERT, "cp /usr/bin/caddy.default /usr/bin/caddy"),
        warn=("caddy.custom_build",),
        untried=(),
    ),
}
