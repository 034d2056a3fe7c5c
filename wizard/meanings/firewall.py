"""What the firewall step finds."""

from .meaning import Meaning

MEANINGS = {
    "firewall.not_managed": Meaning(
        "The answers say that the firewall is left alone (`firewall: {manage: false}`). The final test still tells "
        "what can be reached.",
    ),
    "firewall.package": Meaning("Whether ufw, Ubuntu's firewall, is installed, and wholly. Else it is installed."),
    "firewall.cut_off": Meaning(
        "Whether ufw's files of rules are whole. A disk that was full while ufw wrote one has cut it off, ufw may have "
        "said nothing, and a boot would load none of its rules, SSH's neither. ufw is told to write it again.",
    ),
    "firewall.ssh_port": Meaning(
        "Whether SSH is allowed on each of its ports; that is done before anything is closed. A rule of yours for your "
        "own address alone is enough.",
    ),
    "firewall.https_port": Meaning("Whether 443/tcp is allowed: the endpoint."),
    "firewall.http_port": Meaning(
        "Whether 80/tcp is allowed: the redirect to https, and one of the CA's challenges (modes acme and custom).",
    ),
    "firewall.http3_port": Meaning("Whether 443/udp is allowed, for HTTP/3 (`proxy: {http3: true}`)."),
    "firewall.allow": Meaning("Whether the rules of `firewall.allow` in the answers are there."),
    "firewall.metrics_port": Meaning(
        "Whether each of `harden.metrics_from` is let in to the port of the metrics, and nobody else is.",
    ),
    "firewall.denied": Meaning(
        "A rule of yours denies a port that the endpoint, or you, need, and comes before any that allows it. It is "
        "not touched: it is yours to decide.",
        "Where it may go: `sudo ufw delete deny 443/tcp` (the text has the very command); then run this again.",
    ),
    "firewall.incoming": Meaning(
        "What happens to packets that no rule names. Allowed by default means that every listening port is open: it is "
        "set to deny, and `firewall.cuts_off` tells whom that concerns.",
    ),
    "firewall.cuts_off": Meaning(
        "A program listens on a port that other machines can reach now, and will not any more.",
        "Where that is not wanted, keep it: `firewall: {allow: [{port: 9100}]}`, with `from:` where you can.",
    ),
    "firewall.other_open": Meaning("Another port is open by a rule of yours. It stays so."),
    "firewall.rule_left": Meaning(
        "A rule that an earlier run made, and that nothing needs now (port 80 of another mode, say). It is deleted.",
    ),
    "firewall.enabled": Meaning("Whether ufw is on, and the kernel has its rules as its files have them."),
    "firewall.boot": Meaning(
        "Whether ufw.service, which loads the rules at boot, is enabled; else it is enabled again. Masked means that "
        "somebody has forbidden it to run: that is for them to end.",
        "`sudo systemctl unmask ufw.service`, if that is over.",
    ),
    "firewall.safety": Meaning(
        "The undo that is armed before the firewall changes: it puts everything back after `firewall.safety_seconds`, "
        "also after a reboot, unless the change was proved. Here it is armed, or one that is left over is taken away.",
    ),
    "firewall.proof": Meaning(
        "The proof that you can still get in: a packet from a fresh network namespace reaches SSH, and the loaded "
        "rules let your own address in; or a new login comes. Without it all is put back, and the run ends with 1.",
    ),
    "firewall.ipv6": Meaning(
        "ufw does not manage IPv6 here (`IPV6=no`): switched on, it drops all of it. It blocks where SSH, or what the "
        "answers let in, comes by IPv6; else clients that call an IPv6 address get no answer.",
        "`sudo sed -i 's/^IPV6=.*/IPV6=yes/' /etc/default/ufw`, then check again.",
    ),
    "firewall.limited": Meaning(
        "A rule of yours limits this port: of one address ufw takes a few new connections in half a minute and "
        "refuses the rest. Right for SSH, where it is kept; a busy client of the API is cut off by it.",
        "To let all in: delete that rule, as the text says; the next look puts an allow in its place.",
    ),
    "firewall.partly_open": Meaning(
        "A port beside SSH and HTTPS is open to some: a rule of yours lets them in. It is left as it is."
    ),
    "firewall.refused_before": Meaning(
        "A rule that the kernel meets before ufw's refuses this port: whatever ufw allows, nobody gets in. It is "
        "yours to decide.",
        "Take that rule out where it was made (`sudo iptables -S INPUT`, before.rules, a script), then check again.",
    ),
}
