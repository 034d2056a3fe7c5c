"""Drifts of the firewall."""

from tests.lab.drifts.drift import BLOCKED, INSTALL, Drift

ALLOW_SSH, ALLOW_HTTPS = "run ufw allow 22/tcp comment SSH", "run ufw allow 443/tcp comment HTTPS"
UPDATE = (
    "run apt-get update -q -o Dir::Etc::sourcelist=/etc/apt/sources.list -o Dir::Etc::sourceparts=- "
    "-o APT::Get::List-Cleanup=0"
)
ENABLE = "run ufw --force enable"

FIREWALL = (
    Drift("ufw is off", "ufw disable", "firewall.enabled", (ENABLE,)),
    Drift(
        "ufw was reset",
        "ufw --force reset",
        "firewall.ssh_port",
        (ALLOW_SSH, ALLOW_HTTPS, ENABLE),
        cleanup="rm -f /etc/ufw/*.rules.2*",
    ),
    Drift("the rule for 443 was removed", "ufw delete allow 443/tcp", "firewall.https_port", (ALLOW_HTTPS,)),
    Drift(
        "the rule for SSH was removed",
        "ufw delete allow 22/tcp",
        "firewall.ssh_port",
        (ALLOW_SSH,),
        console=True,
    ),
    Drift(
        "a rule was taken out of ufw's file for IPv4",
        "sed -i /443/d /etc/ufw/user.rules",
        "firewall.https_port",
        ("run ufw allow from 0.0.0.0/0 to any port 443 proto tcp comment HTTPS",),
    ),
    Drift(
        "the rule for 443 was turned round",
        "ufw deny 443/tcp",
        "firewall.denied",
        (ALLOW_HTTPS,),
        level=BLOCKED,
        stops=("a rule of yours denies 443/tcp", "sudo ufw delete deny 443/tcp"),
        by_hand="ufw delete deny 443/tcp",
    ),
    Drift(
        "a rule that denies 443 was put before ours",
        "ufw prepend deny 440:450/tcp",
        "firewall.denied",
        level=BLOCKED,
        stops=("“deny 440:450/tcp” comes before it", "sudo ufw delete deny 440:450/tcp"),
        by_hand="ufw delete deny 440:450/tcp",
    ),
    Drift("the rules are not loaded", "nft flush ruleset", "firewall.enabled", ("run ufw reload",)),
    Drift("what no rule decides gets in", "iptables -P INPUT ACCEPT", "firewall.enabled", ("run ufw reload",)),
    Drift("the same over IPv6 alone", "ip6tables -P INPUT ACCEPT", "firewall.enabled", ("run ufw reload",)),
    Drift(
        "ufw's own rules are asked no more",
        "iptables -D ufw-before-input -j ufw-user-input",
        "firewall.enabled",
        ("run ufw reload",),
        console=True,
    ),
    Drift(
        "incoming is allowed by default",
        "ufw default allow incoming",
        "firewall.incoming",
        ("run ufw default deny incoming",),
    ),
    Drift(
        "a rule of iptables comes before ufw's",
        "iptables -I INPUT ! -i lo -p tcp --dport 443 -j DROP",
        "preflight.own_rules",
        level=BLOCKED,
        stops=("refuses 443/tcp before ufw is asked", "sudo iptables -D INPUT ! -i lo -p tcp -m tcp --dport 443"),
        by_hand="iptables -D INPUT ! -i lo -p tcp --dport 443 -j DROP",
    ),
    Drift(
        "ufw would not come back after a reboot",
        "systemctl disable -q ufw",
        "firewall.boot",
        ("run systemctl enable ufw.service",),
    ),
    Drift(
        "ufw's unit is masked",
        "systemctl mask -q ufw",
        "firewall.boot",
        level=BLOCKED,
        stops=("after a reboot there would be no firewall", "sudo systemctl unmask ufw.service"),
        by_hand="systemctl unmask -q ufw",
    ),
    # All that the repair does is of the undo: it is made whole, the firewall is proved, it is taken away.
    Drift(
        "a change of the firewall was never proved, and its undo is gone",
        "mkdir -p /var/lib/vllm-https-setup/firewall; : >/var/lib/vllm-https-setup/firewall/unconfirmed",
        "firewall.safety",
    ),
    Drift(
        "ufw was removed",
        "apt-get remove -qq ufw",
        "firewall.package",
        (
            UPDATE,
            f"{INSTALL} -o Dpkg::Options::=--force-confold --no-install-recommends -- ufw",
            ALLOW_SSH,
            ALLOW_HTTPS,
            ENABLE,
        ),
    ),
    Drift(
        "sshd listens on a second port",
        "printf 'Port 22\\nPort 2222\\n' >/etc/ssh/sshd_config.d/two.conf; systemctl reload ssh; "
        "until ss -Hltn | grep -q :2222; do sleep 0.05; done",
        "firewall.ssh_port",
        ("run ufw allow 2222/tcp comment SSH",),
        cleanup="rm /etc/ssh/sshd_config.d/two.conf; systemctl reload ssh; ufw delete allow 2222/tcp; "
        "until ! ss -Hltn | grep -q :2222; do sleep 0.05; done",
    ),
)
