"""Drifts of what Caddy serves, and of the certificate."""

from tests.lab.drifts.caddy import EXPORT
from tests.lab.drifts.drift import BLOCKED, CADDYFILE, START_CADDY, WRITE_CADDYFILE, Drift

ADDITION = "/etc/caddy/vllm-https.d/own.caddy"
ROOT = "/etc/vllm-https-setup/root.crt"
LEAVES = "/var/lib/caddy/.local/share/caddy/certificates/local"
AUTHORITY = "/var/lib/caddy/.local/share/caddy/pki"
OTHER_CONFIG = (
    "curl -sf -X POST -H 'Content-Type: application/json' http://localhost:2019/load -d "
    '\'{"admin":{"listen":"localhost:2019"}}\''
)
RULE_FOR_OTHER = (
    'ufw allow 29500/tcp; sed -i \'s/{/{"extra_listeners": ["0.0.0.0:29500"], /\' /etc/vllm-standin.json; '
    "systemctl restart vllm; until ss -Hltn | grep -q :8000; do sleep 0.05; done"
)
WITHOUT_OTHER = (
    'ufw delete allow 29500/tcp; sed -i \'s/"extra_listeners": \\["0.0.0.0:29500"\\], //\' /etc/vllm-standin.json; '
    "systemctl restart vllm; sleep 0.1; until ss -Hltn | grep -q :8000; do sleep 0.05; done"
)


def addition(text: str, then: str = "") -> str:
    """The command that adds lines to our site."""
    return f"mkdir -p /etc/caddy/vllm-https.d; printf '{text}' >{ADDITION}{then}"


TLS = (
    Drift(
        "the Caddyfile was edited",
        f"echo '# an edit by hand' >>{CADDYFILE}",
        "tls.caddyfile",
        WRITE_CADDYFILE,
        kept="# an edit by hand",
    ),
    Drift(
        "the Caddyfile is another's",
        f"printf 'http://blog.lan:8081 {{\\n\\trespond blog\\n}}\\n' >{CADDYFILE}; systemctl reload caddy",
        "tls.caddyfile",
        WRITE_CADDYFILE,
        kept="http://blog.lan:8081",
    ),
    Drift(
        "the Caddyfile is wrong",
        f"echo 'oops {{' >>{CADDYFILE}",
        "tls.caddyfile",
        WRITE_CADDYFILE,
        kept="oops {",
    ),
    Drift("the Caddyfile is gone", f"rm {CADDYFILE}", "tls.caddyfile", WRITE_CADDYFILE),
    Drift("the Caddyfile is empty", f": >{CADDYFILE}", "tls.caddyfile", WRITE_CADDYFILE),
    Drift("Caddy can't read the Caddyfile", f"chmod 600 {CADDYFILE}", "tls.caddyfile", WRITE_CADDYFILE),
    Drift("the Caddyfile is vLLM's", f"chown vllm:vllm {CADDYFILE}", "tls.caddyfile", WRITE_CADDYFILE),
    Drift("Caddy runs another configuration", OTHER_CONFIG, "tls.running", (START_CADDY,)),
    Drift(
        "an addition was not loaded",
        addition("handle /hello {\\n\\trespond hello\\n}\\n"),
        "tls.running",
        (START_CADDY,),
        cleanup=f"rm {ADDITION}; systemctl reload caddy",
    ),
    Drift(
        "an addition opens what must be closed",
        addition("handle /metrics {\\n\\treverse_proxy 127.0.0.1:8000\\n}\\n", "; systemctl reload caddy"),
        "https_test.api.blocked",
        level="warn",
        stops=("vLLM itself answers /metrics", "sudo grep -rn reverse_proxy /etc/caddy"),
        code=5,
        by_hand=f"rm {ADDITION}",
        repaired=(START_CADDY,),
    ),
    Drift(
        "an addition is wrong",
        addition("no_such_directive\\n"),
        "tls.additions",
        level=BLOCKED,
        stops=("no_such_directive", f"sudo mv {ADDITION} /root/"),
        by_hand=f"rm {ADDITION}",
    ),
    Drift(
        "a rule opens another port of vLLM's",
        RULE_FOR_OTHER,
        "https_test.net.closed",
        level="warn",
        stops=("29500", "sudo ufw"),
        code=5,
        by_hand=WITHOUT_OTHER,
    ),
    Drift("the root certificate is gone", f"rm {ROOT}", "tls.root", (EXPORT,)),
    Drift("the root certificate was edited", f"echo x >>{ROOT}", "tls.root", (EXPORT,)),
    Drift("nobody can read the root certificate", f"chmod 600 {ROOT}", "tls.root", (EXPORT,)),
    Drift(
        "Caddy's CA was deleted, and Caddy has made another",
        f"systemctl stop caddy; rm -r {AUTHORITY}; systemctl start caddy; "
        f"until test -s {AUTHORITY}/authorities/local/root.crt; do sleep 0.05; done",
        "tls.leaf",
        (f"run rm -rf -- {LEAVES}", "run systemctl restart caddy.service", EXPORT),
        new_root=True,
    ),
    Drift(
        "all that Caddy keeps is gone, and the directory with it",
        "systemctl stop caddy; rm -r /var/lib/caddy",
        "caddy.home",
        ("run install -d -m 0750 -o caddy -g caddy /var/lib/caddy", START_CADDY, "wait Caddy's own CA", EXPORT),
        new_root=True,
    ),
    Drift(
        "the server has one more address",
        "ip address add 10.91.9.9/16 dev host0",
        "tls.caddyfile",
        WRITE_CADDYFILE,
        cleanup="ip address del 10.91.9.9/16 dev host0; vllm-https-setup repair >/dev/null",
    ),
    Drift(
        "the server has lost an address",
        "ip address add 10.91.9.9/16 dev host0; vllm-https-setup repair >/dev/null; "
        "ip address del 10.91.9.9/16 dev host0",
        "tls.caddyfile",
        WRITE_CADDYFILE,
    ),
)
