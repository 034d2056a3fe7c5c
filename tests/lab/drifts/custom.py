"""Drifts in mode custom, where our site is imported into a Caddyfile of others."""

from tests.lab.drifts.drift import BLOCKED, CADDYFILE, START_CADDY, Drift

SITE_FILE = "/etc/caddy/vllm-https.caddy"
CERTIFICATE, KEY = "/etc/caddy/vllm-https/certificate.pem", "/etc/caddy/vllm-https/key.pem"
# The originals, and other pairs that a test has put beside them: good ones, and those that must be refused.
ORIGINALS, PAIRS, BEFORE = "/etc/ssl/llm", "/root/pairs", "/root/before"
WATCH = "vllm-https-setup-certificate.path"
WATCH_FILE = f"/etc/systemd/system/{WATCH}"
WATCHED = (f"run systemctl enable {WATCH}", f"run systemctl restart {WATCH}")
# The watch would take a good pair up by itself, and be quicker than a test.
UNWATCHED = f"systemctl stop {WATCH}"


PUT_BACK = f"cp {BEFORE}/chain.pem {BEFORE}/key.pem {ORIGINALS}/"


def with_pair(name: str) -> str:
    """The command that puts another pair in the originals' place, unseen by the watch."""
    keep = f"rm -rf {BEFORE}; cp -r {ORIGINALS} {BEFORE}"
    return f"{UNWATCHED}; {keep}; cp {PAIRS}/{name}/chain.pem {PAIRS}/{name}/key.pem {ORIGINALS}/"


CUSTOM = (
    Drift(
        "our import was deleted",
        f"sed -i /vllm-https/d {CADDYFILE}",
        "tls.caddyfile",
        (f"write {CADDYFILE}", START_CADDY),
    ),
    Drift("our imported site is gone", f"rm {SITE_FILE}", "tls.caddyfile", (f"write {SITE_FILE}", START_CADDY)),
    Drift(
        "our imported site was edited",
        f"echo '# an edit by hand' >>{SITE_FILE}",
        "tls.caddyfile",
        (f"write {SITE_FILE}", START_CADDY),
        kept="# an edit by hand",
    ),
    Drift(
        "Caddy can't read our imported site",
        f"chmod 600 {SITE_FILE}",
        "tls.caddyfile",
        (f"write {SITE_FILE}", START_CADDY),
    ),
    Drift(
        "the rule for 80 was removed",
        "ufw delete allow 80/tcp",
        "firewall.http_port",
        ("run ufw allow 80/tcp comment HTTP",),
    ),
    Drift(
        "the certificate was replaced while nothing watched",
        with_pair("good"),
        "tls.copies",
        (f"write {CERTIFICATE}", f"write {KEY}", START_CADDY, *WATCHED),
    ),
    Drift(
        "the certificate has expired",
        with_pair("expired"),
        "tls.certificate_refused",
        WATCHED,
        level=BLOCKED,
        stops=("expired",),
        by_hand=PUT_BACK,
    ),
    Drift(
        "the certificate is another name's",
        with_pair("other_name"),
        "tls.certificate_refused",
        WATCHED,
        level=BLOCKED,
        stops=("llm.example.test",),
        by_hand=PUT_BACK,
    ),
    Drift(
        "the original key is gone",
        f"{UNWATCHED}; mv {ORIGINALS}/key.pem /root/kept",
        "tls.certificate",
        WATCHED,
        level=BLOCKED,
        stops=(f"{ORIGINALS}/key.pem: there is no such file", "tls.private_key"),
        by_hand=f"mv /root/kept {ORIGINALS}/key.pem",
    ),
    Drift("Caddy can't read its key", f"chown root:root {KEY}", "tls.copies", (f"write {KEY}", START_CADDY)),
    Drift(
        "Caddy's certificate is cut off",
        f"truncate -s 200 {CERTIFICATE}",
        "tls.copies",
        (f"write {CERTIFICATE}", START_CADDY),
    ),
    Drift("the watch is disabled", f"systemctl disable -q {WATCH}", "tls.watch", WATCHED),
    Drift(
        "the watch's unit was edited",
        f"echo '# an edit by hand' >>{WATCH_FILE}",
        "tls.watch",
        (f"write {WATCH_FILE}", *WATCHED),
        kept="# an edit by hand",
    ),
)
