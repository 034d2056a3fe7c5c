"""TLS: Caddy serves /v1/* alone, under a certificate of its own CA, of an ACME CA, or of yours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .. import acme, admin_socket, custom, eab, existing, internal
from ..caddy_service import loaded, restarts, stopped
from ..caddyfile import ADDITIONS, is_foreign, is_packaged, render_caddyfile
from ..endpoint import find_hosts
from ..engine import Look, Step
from ..model import Action, Finding, Level, Run, Then, Write
from ..models import Model, further
from ..parse.error_line import line_of_error
from ..paths import CADDY_SERVICE, CADDYFILE, CERTIFICATE_PATH_UNIT
from ..queries import ADAPT, begin_together
from ..questions import Choice, Kind, Question
from ..rate_limit import taken_out
from ..server import FileState
from ..vllm import find_vllm

VALIDATE = (
    *("runuser", "-u", "caddy", "--", "env", "HOME=/var/lib/caddy"),
    *("caddy", "validate", "--adapter", "caddyfile", "--config", "{path}"),
)
OTHERS_REMEDY = (
    "answer caddy: {existing_config: keep} to have ours imported into it, or "
    "{existing_config: replace} to replace it (a backup is kept)"
)
NO_SITE = b"# No site yet: the CA has issued no certificate. sudo vllm-https-setup status says what is missing.\n"


def inspect(look: Look) -> Iterator[Finding]:
    begin_look(look)
    mode = look.answers.tls.mode
    before = {"internal": internal.check_before, "acme": acme.check_before, "custom": custom.check_before}[mode]
    findings = [*before(look), *admin_socket.check_directory(look)]
    for model in named(look):
        findings += of_a_name(model, {"acme": acme, "custom": custom}[mode].check_name(model.look))
    yield from findings
    if any(finding.level is Level.BLOCKED and finding.key not in look.answers.preflight.accept for finding in findings):
        return
    configuration = list(check_configuration(look))
    yield from configuration
    if any(finding.level is Level.BLOCKED for finding in configuration):
        return
    if not any(finding.fix for finding in (*findings, *configuration)):
        running = check_running(look)
        yield running
        if running.level is Level.OK and mode == "internal":
            yield from internal.check_shown(look)
            for model in further(look):
                yield from internal.check_shown(model.look) if model.host else ()
    yield from check_after(look)
    if mode != "internal":
        yield from internal.clear_away(look)
    if mode != "custom":
        yield from custom.clear_away(look)
    yield from eab.clear_away(look)
    yield from admin_socket.clear_away(look)


def begin(look: Look) -> None:
    """What takes a while: the CA's directory is far away."""
    if look.answers.tls.mode == "acme":
        acme.expect_directory(look)


def begin_look(look: Look) -> None:
    """What the step asks, together; and what a Caddyfile of ours says, which takes the longest."""
    state = look.server.read(CADDYFILE)
    packaged = state is None or is_packaged(state.text)
    watch = (CERTIFICATE_PATH_UNIT,) if look.answers.tls.mode == "custom" else ()
    units = (look.answers.vllm.unit, CADDY_SERVICE, *watch)
    begin_together(look.server, units, *(() if packaged else ((*ADAPT, CADDYFILE),)))


def check_after(look: Look) -> Iterator[Finding]:
    match look.answers.tls.mode:
        case "internal":
            yield from internal.check_after(look)
        case "acme":
            yield from acme.check_after(look, without_attempts(look))
            for model in named(look):
                yield from of_a_name(model, acme.check_after(model.look, without_attempts(look)))
        case "custom":
            yield from custom.check_after(look)


def named(look: Look) -> tuple[Model, ...]:
    """Further services whose own names a certificate has to be for; Caddy's own CA signs any."""
    return tuple(one for one in further(look) if one.host and look.answers.tls.mode != "internal")


def of_a_name(model: Model, found: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of another name than the first service's: each says which."""
    for one in found:
        summary = one.summary if model.host in one.summary else f"{model.host}: {one.summary}"
        yield replace(one, summary=summary, evidence={**one.evidence, "host": model.host})


def check_configuration(look: Look) -> Iterator[Finding]:
    """The Caddyfile: ours as a whole; or another's, kept, with our site imported."""
    state = look.server.read(CADDYFILE)
    theirs = state is not None and state.kind == "file" and is_others(look, state)
    if state is not None and theirs and look.answers.caddy.existing_config == "keep":
        yield from existing.check(look, state, find_vllm(look).upstream, VALIDATE)
        return
    finding = check_caddyfile(look, theirs=theirs)
    yield finding
    if finding.level is not Level.BLOCKED:
        yield from existing.clear_away(look)


def is_others(look: Look, state: FileState) -> bool:
    """True if this Caddyfile has sites that are not ours."""
    if existing.is_kept(look, state):
        return True
    # Somebody has put a Caddyfile of their own in the place of ours, and wants both.
    if look.answers.caddy.existing_config == "keep" and is_foreign(state.text):
        return True
    # A file that was just written, and is not in owned.json yet, is known by what it says.
    return not (look.owned.is_written(CADDYFILE) or is_packaged(state.text) or is_of_this_endpoint(look, state))


def check_caddyfile(look: Look, *, theirs: bool) -> Finding:
    wanted = render_caddyfile(look, find_vllm(look).upstream).encode()
    state = look.server.read(CADDYFILE)
    if state is not None and state.kind != "file":
        remedy = f"look at it: ls -l {CADDYFILE}; move it away, then run this again"
        return Finding("tls.caddyfile", Level.BLOCKED, f"{CADDYFILE} is a {state.kind}, not a file", remedy)
    attributes = (0o644, "root", "root")
    if state is not None and state.content == wanted and (state.mode, state.owner, state.group) == attributes:
        return Finding("tls.caddyfile", Level.OK, "the Caddyfile is as it should be: /v1/* alone is served")
    answers = look.answers.caddy
    # A package that was purged and is there again has brought its own: nobody's edit.
    fresh = state is not None and state.kind == "file" and is_packaged(state.text)
    edited = not theirs and not fresh and look.owned.is_edited(CADDYFILE, state)
    if state is not None and edited and answers.edited_config == "stop":
        return Finding("tls.caddyfile", Level.BLOCKED, "the Caddyfile was edited by hand since", existing.EDITED_REMEDY)
    if theirs and answers.existing_config != "replace":
        return Finding("tls.caddyfile", Level.BLOCKED, f"{CADDYFILE} has sites of others", OTHERS_REMEDY)
    said = "the Caddyfile was edited by hand since" if edited else "the Caddyfile is not the one for this endpoint"
    if not edited and (why_not := taken_out(look)):
        said = f"the Caddyfile limits requests, which can't stay: {why_not}"
    if state is not None and state.content == wanted:
        said = f"the Caddyfile has mode {state.mode:04o} and belongs to {state.owner}:{state.group}, not to root alone"
    why = "ours again; the edit is kept in the run's backup" if edited else "one site: /v1/* to vLLM, 404 for all else"
    then, back = (loaded(look),), () if state is None else (put_back(look, state),)
    write = Write(CADDYFILE, wanted, why, validate=VALIDATE, then=then, otherwise=back)
    return Finding("tls.caddyfile", Level.DRIFT, said, fix=(write,))


def put_back(look: Look, state: FileState) -> Write:
    why = "Caddy refuses the new configuration and runs the old one on: its file is put back"
    then: tuple[Then, ...] = ()
    if restarts(look):
        # It was restarted, and may not run at all.
        why, then = "Caddy does not start with the new configuration: its old file is put back", (loaded(look),)
    return Write(CADDYFILE, state.content, why, mode=state.mode, owner=state.owner, group=state.group, then=then)


def without_attempts(look: Look) -> tuple[Action, ...]:
    """The configuration before this one, loaded: Caddy asks the CA no more. Where that was no site, none."""
    state = look.server.read(CADDYFILE)
    if (
        state is not None
        and state.kind == "file"
        and is_others(look, state)
        and look.answers.caddy.existing_config == "keep"
    ):
        theirs = existing.without_import(state.text)
        why = "the CA would be asked again and again, and each attempt counts: our site is taken out"
        return (Write(CADDYFILE, theirs.encode(), why, then=(loaded(look),), keep_attributes=True),)
    asks_again = state is None or state.kind != "file" or is_packaged(state.text) or is_of_this_endpoint(look, state)
    content = NO_SITE if asks_again or state is None else state.content
    why = "the CA would be asked again and again, and each attempt counts: back to what was there before"
    return (Write(CADDYFILE, content, why, then=(loaded(look),)),)


def is_of_this_endpoint(look: Look, state: FileState) -> bool:
    return state.content == render_caddyfile(look, find_vllm(look).upstream).encode()


def check_running(look: Look) -> Finding:
    unit = look.server.units(CADDY_SERVICE)[CADDY_SERVICE]
    then = loaded(look)
    runs = look.server.caddy_runs(CADDYFILE) if unit.is_active else False
    if runs:
        return Finding("tls.running", Level.OK, "Caddy runs what the Caddyfile says")
    if reason := refused(look):
        return refused_addition(reason)
    summary = "Caddy runs another configuration than its file has" if unit.is_active else "Caddy does not run"
    back = stopped()
    undo = () if unit.is_active else (Run(back.argv, back.why, makes=back.makes),)
    fix = Run(then.argv, then.why, impact=then.impact, makes=then.makes, undo=undo)
    return Finding("tls.running", Level.DRIFT, summary, fix=(fix,))


def refused(look: Look) -> str:
    """Why Caddy could not take up what is in its files now, or ""."""
    if not any(name.endswith(".caddy") for name in look.server.names(ADDITIONS)):
        return ""
    output = look.server.query((*ADAPT, CADDYFILE))
    return "" if output.ok or output.code == existing.NOT_FOUND else line_of_error(output.err)


def refused_addition(reason: str) -> Finding:
    """Our own file is as it should be: what Caddy refuses is an addition to it, and it may be worth keeping."""
    found = re.search(rf"{re.escape(ADDITIONS)}/[^:\s]+", reason)
    place = found[0] if found else f"{ADDITIONS}/*.caddy"
    return Finding(
        "tls.additions",
        Level.BLOCKED,
        f"Caddy refuses an addition of yours, and would not start again: {reason}",
        f"put it right, or move it away: sudo mv {place} /root/; then run this again",
        evidence={"path": place},
    )


MODES = (
    Choice(
        "internal",
        "Internal",
        "no domain needed; clients install one root certificate. For a private network",
    ),
    Choice(
        "acme",
        "Let's Encrypt",
        "a public domain that points here; every client trusts it; renews itself",
    ),
    Choice("custom", "Your own files", "from your company's CA, or bought; you renew them"),
)


def ask(look: Look, seen: Sequence[Finding]) -> Iterator[Question]:
    """The mode, and what it needs; then what to do with a Caddyfile that is there."""
    tls = look.answers.tls
    yield Question("tls.mode", "Certificate", Kind.ONE, MODES)
    if tls.mode == "internal":
        automatic = look.answers.model_copy(update={"tls": tls.model_copy(update={"hosts": "auto"})})
        found = ", ".join(find_hosts(replace(look, answers=automatic)))
        yield Question("tls.hosts", "Clients call", Kind.LIST, otherwise=found)
    else:
        yield Question("tls.domain", "Domain", Kind.TEXT, needed=True, note="the name that clients call")
    if tls.mode == "acme":
        yield Question("tls.email", "E-mail", Kind.TEXT, needed=True, note="only the CA sees it")
        if acme.is_other(look):
            yield Question("tls.acme_directory", "CA", Kind.TEXT)
            yield Question("tls.acme_ca_file", "CA's own root", Kind.PATH, otherwise="a public one")
        if tls.eab_file or any(finding.key == "tls.eab" for finding in seen):
            yield Question("tls.eab_file", "File of the CA's account", Kind.PATH, note="key id, MAC key: a line each")
    if tls.mode == "custom":
        yield Question("tls.certificate", "Certificate", Kind.PATH, needed=True, note="PEM, your own first")
        yield Question("tls.private_key", "Private key", Kind.PATH, needed=True)
    in_the_way = any(finding.remedy == OTHERS_REMEDY for finding in seen)
    if in_the_way or look.answers.caddy.existing_config != "stop":
        yield Question("caddy.existing_config", "The Caddyfile that is there", Kind.ONE, EXISTING)


EXISTING = (
    Choice("stop", "Stop", "change nothing, and think about it"),
    Choice("keep", "Keep it", "ours is imported into it by one line"),
    Choice("replace", "Replace it", "a backup is kept"),
)

STEP = Step(
    "tls",
    "TLS",
    inspect,
    ask=ask,
    begin=begin,
    about="How clients know that they talk to this server.",
    help=(
        "The connection is encrypted in each of the three ways; they differ in who vouches for the certificate.\n\n"
        "Internal: this server does, by a root certificate of its own that you hand to clients. Let's Encrypt: a "
        "public authority does, after it has reached this server by its name; ports 80 and 443 must be open from the "
        "internet, at your provider too. Your own files: whoever gave them to you does; they are checked now, and "
        "loaded again by themselves when you replace them.\n\n"
        "You can change this later: choose another one, and only Caddy is reloaded."
    ),
)
