"""TLS, mode internal: Caddy serves /v1/* alone, with certificates of its own CA, whose root clients are given."""

from __future__ import annotations

from collections.abc import Iterator

from ..caddyfile import PACKAGED_CADDYFILE, render_caddyfile
from ..endpoint import find_hosts
from ..engine import Look, Step
from ..model import (
    CaddyRuns,
    FileCopied,
    FileIs,
    Finding,
    Impact,
    Level,
    ListensOn,
    Probe,
    Run,
    Then,
    UnitIs,
    Wait,
    Write,
)
from ..paths import CADDY_ROOT, CADDYFILE, ROOT_CERTIFICATE
from ..server import FileState, Server
from ..vllm import find_vllm

VALIDATE = (
    *("runuser", "-u", "caddy", "--", "env", "HOME=/var/lib/caddy"),
    *("caddy", "validate", "--adapter", "caddyfile", "--config", "{path}"),
)
ROOT_MADE = b"(made by Caddy when it first needs it)"
EDITED_REMEDY = "put your lines into /etc/caddy/vllm-https.d/*.caddy; or answer caddy: {edited_config: replace}"
OTHERS_REMEDY = "answer caddy: {existing_config: replace} to replace it (a backup is kept), or move the other sites"


def inspect(look: Look) -> Iterator[Finding]:
    if look.answers.tls.mode != "internal":
        yield Finding(
            "tls.mode",
            Level.BLOCKED,
            f"mode {look.answers.tls.mode} is not there yet in this version",
            remedy="answer tls: {mode: internal}",
        )
        return
    hosts = find_hosts(look)
    if not hosts:
        yield Finding(
            "tls.hosts",
            Level.BLOCKED,
            "this server has no address and no name that a client could call",
            remedy="name one: tls: {hosts: [10.0.0.5]}",
        )
        return
    yield Finding("tls.hosts", Level.OK, f"clients may call {', '.join(hosts)}", evidence={"hosts": list(hosts)})
    caddyfile = check_caddyfile(look)
    yield caddyfile
    if caddyfile.level is Level.BLOCKED:
        return
    if caddyfile.level is not Level.DRIFT:
        yield check_running(look)
    yield check_root(look)


def loaded(look: Look) -> Then:
    """Caddy takes the file up: by a reload where it runs, else by its start."""
    running = look.server.units("caddy.service")["caddy.service"].is_active
    root = () if look.server.read(CADDY_ROOT) else (FileIs(CADDY_ROOT, ROOT_MADE, 0o600, "caddy", "caddy"),)
    return Then(
        ("systemctl", "reload-or-restart", "caddy.service"),
        "Caddy takes the new configuration up; open connections live on" if running else "start Caddy",
        Impact.RELOAD_CADDY if running else Impact.NONE,
        makes=(
            *root,
            UnitIs("caddy.service", active=True),
            ListensOn("caddy.service", (("127.0.0.1", 2019), ("::", 443))),
            CaddyRuns(CADDYFILE),
        ),
    )


def is_packaged(state: FileState, look: Look) -> bool:
    """The welcome page that the package brings: nobody's site."""
    if state.content == PACKAGED_CADDYFILE:
        return True
    lines = [line.strip() for line in state.text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return lines in ([":80 {", "root * /usr/share/caddy", "file_server", "}"], [])


def check_caddyfile(look: Look) -> Finding:
    wanted = render_caddyfile(look, find_vllm(look).upstream).encode()
    state = look.server.read(CADDYFILE)
    if state is not None and state.kind != "file":
        remedy = f"look at it: ls -l {CADDYFILE}; move it away, then run this again"
        return Finding("tls.caddyfile", Level.BLOCKED, f"{CADDYFILE} is a {state.kind}, not a file", remedy)
    attributes = (0o644, "root", "root")
    if state is not None and state.content == wanted and (state.mode, state.owner, state.group) == attributes:
        return Finding("tls.caddyfile", Level.OK, "the Caddyfile is as it should be: /v1/* alone is served")
    edited = look.owned.is_edited(CADDYFILE, state)
    ours = look.owned.is_written(CADDYFILE)
    if state is not None and edited and look.answers.caddy.edited_config == "stop":
        return Finding("tls.caddyfile", Level.BLOCKED, "the Caddyfile was edited by hand since", EDITED_REMEDY)
    if (
        state is not None
        and not ours
        and not is_packaged(state, look)
        and look.answers.caddy.existing_config != "replace"
    ):
        return Finding("tls.caddyfile", Level.BLOCKED, f"{CADDYFILE} has sites of others", OTHERS_REMEDY)
    said = "the Caddyfile was edited by hand since" if edited else "the Caddyfile is not the one for this endpoint"
    before = () if state is None else (put_back(state),)
    write = Write(
        CADDYFILE,
        wanted,
        "one site: /v1/* to vLLM, 404 for all else"
        if not edited
        else "ours again; the edit is kept in the run's backup",
        validate=VALIDATE,
        then=(loaded(look),),
        otherwise=before,
    )
    return Finding("tls.caddyfile", Level.DRIFT, said, fix=(write,))


def put_back(state: FileState) -> Write:
    return Write(
        CADDYFILE,
        state.content,
        "Caddy refuses the new configuration and runs the old one on: its file is put back",
        mode=state.mode,
        owner=state.owner,
        group=state.group,
    )


def check_running(look: Look) -> Finding:
    unit = look.server.units("caddy.service")["caddy.service"]
    then = loaded(look)
    runs = look.server.caddy_runs(CADDYFILE) if unit.is_active else False
    if runs:
        return Finding("tls.running", Level.OK, "Caddy runs what the Caddyfile says")
    summary = "Caddy runs another configuration than its file has" if unit.is_active else "Caddy does not run"
    fix = Run(then.argv, then.why, impact=then.impact, makes=then.makes)
    return Finding("tls.running", Level.DRIFT, summary, fix=(fix,))


def has_root(server: Server) -> Probe:
    return Probe(server.read(CADDY_ROOT) is not None or None, "Caddy makes its root certificate")


def check_root(look: Look) -> Finding:
    """The root that clients install. The leaf lives for hours, and is never what clients trust."""
    made, exported = look.server.read(CADDY_ROOT), look.server.read(ROOT_CERTIFICATE)
    if made is not None and exported is not None and made.content == exported.content and exported.mode == 0o644:
        return Finding(
            "tls.root",
            Level.OK,
            f"clients trust {ROOT_CERTIFICATE}",
            evidence={"trust": trust_instructions()},
        )
    copy = Run(
        ("install", "-D", "-m", "0644", CADDY_ROOT, ROOT_CERTIFICATE),
        "the root certificate, for clients to trust",
        makes=(FileCopied(CADDY_ROOT, ROOT_CERTIFICATE, 0o644),),
        undo=(Run(("rm", "-f", "--", ROOT_CERTIFICATE), "", makes=(FileIs(ROOT_CERTIFICATE, None),)),),
    )
    wait = () if made is not None else (Wait("Caddy's own CA", "its root certificate is made", 30, has_root),)
    summary = "the root certificate is not exported yet" if exported is None else "Caddy's CA has another root now"
    return Finding("tls.root", Level.DRIFT, summary, fix=(*wait, copy))


def trust_instructions() -> dict[str, str]:
    return {
        "curl": "curl --cacert root.crt https://…",
        "python": "SSL_CERT_FILE=root.crt python your-program.py",
        "debian": "sudo cp root.crt /usr/local/share/ca-certificates/vllm.crt && sudo update-ca-certificates",
    }


STEP = Step("tls", "TLS", inspect)
