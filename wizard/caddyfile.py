"""Our Caddyfile, from the answers and the server: text alone, nothing is asked of Caddy here."""

from __future__ import annotations

from dataclasses import dataclass

from .endpoint import find_hosts, served_hosts, url_host
from .engine import Look
from .hardening import LOOPBACK, allowed, chosen, with_own
from .models import Model, further
from .parse.account import Account, read_account
from .parse.caddy_admin import DEFAULT_ADMIN, UNIX
from .paths import ADMIN_SOCKET, SITE_FILE
from .rate_limit import find_limiter
from .render import render
from .vllm import find_vllm

# What every Caddyfile of ours begins with.
HEADING = "# Made by vllm-https-setup"
# What an overlay takes the package's own Caddyfile for: it is not known before the package is there.
PACKAGED_CADDYFILE = b"# The Caddyfile that the package brings\n"
ADDITIONS = "/etc/caddy/vllm-https.d"
LOGGER = "vllm-https"
CERTIFICATES = "/etc/caddy/vllm-https"
CERTIFICATE, KEY = f"{CERTIFICATES}/certificate.pem", f"{CERTIFICATES}/key.pem"
ACCOUNT_KEY = f"{CERTIFICATES}/account.key"
# A key takes 100 bytes of a head, a cookie of others' 4 KB; 100 MB within 5 minutes is 3 Mbit/s.
SLOW_CLIENTS = {"head_size": "16KB", "head": "10s", "body": "5m"}


@dataclass(frozen=True)
class Api:
    """What of a site is one service's: the paths that begin with `prefix`/v1."""

    prefix: str
    upstream: str
    unit: str


@dataclass(frozen=True)
class Limit:
    """Requests of one address in a minute, and whose are not limited. `counts`: the module has metrics."""

    per_minute: int
    unlimited: str
    counts: bool


def is_packaged(text: str) -> bool:
    """The welcome page that the package brings, or nothing but comments: nobody's site."""
    if text == PACKAGED_CADDYFILE.decode():
        return True
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return lines in ([":80 {", "root * /usr/share/caddy", "file_server", "}"], [])


def is_foreign(text: str) -> bool:
    """A Caddyfile that somebody else has written."""
    return HEADING not in text and not is_packaged(text)


def is_imported(look: Look) -> bool:
    """Whether our site is imported into a Caddyfile of others, whose global options are theirs."""
    return look.server.read(SITE_FILE) is not None


def chosen_admin(look: Look) -> str:
    """Where the answers have Caddy administered."""
    return f"{UNIX}{ADMIN_SOCKET}" if chosen(look.answers, "admin_socket") else DEFAULT_ADMIN


def serves_http(look: Look) -> bool:
    """Whether port 80 is ours: for the redirect, and for one of the CA's challenges."""
    wanted = look.answers.firewall.http
    return look.answers.tls.mode != "internal" and wanted is not False


def render_caddyfile(look: Look, upstream: str) -> str:
    """The whole Caddyfile, formatted as `caddy fmt` would."""
    return render(
        "Caddyfile.j2",
        mode=look.answers.tls.mode,
        hosts=find_hosts(look),
        admin=chosen_admin(look),
        protocols="h1 h2 h3" if look.answers.proxy.http3 else "h1 h2",
        slow_clients=SLOW_CLIENTS if chosen(look.answers, "slow_clients") else None,
        additions=ADDITIONS,
        log_filter=_log_filter(),
        limits_requests=_limit(look) is not None,
        site=render_site(look, upstream),
        catch_all=render_catch_all(look).rstrip("\n"),
        metrics=render_metrics(look, upstream).rstrip("\n"),
    )


def render_catch_all(look: Look, *, imported: bool = False) -> str:
    """The answer for every other name and Host. Imported into another's Caddyfile it logs nothing: what their sites
    leave out of their logs would come here too."""
    return render(
        "catch_all.caddy.j2",
        mode=look.answers.tls.mode,
        http=serves_http(look),
        imported=imported,
        access_log=look.answers.proxy.access_log,
        logger=LOGGER,
        errors=_errors(),
    )


def render_site(look: Look, upstream: str, *, imported: bool = False) -> str:
    """Our sites alone, without global options; `imported` into another's Caddyfile, they see to their logs by
    themselves. Services with a path of their own are in the first one, with the operator's additions; one that has a
    name of its own is a site."""
    more = further(look)
    first = Api("", upstream, look.answers.vllm.unit)
    sites = [_site(look, [first, *(_api(one) for one in more if not one.host)], imported=imported)]
    sites += [_site(one.look, [_api(one)], imported=imported, named=True) for one in more if one.host]
    return "\n".join(sites)


def _api(model: Model) -> Api:
    return Api(model.look.prefix, find_vllm(model.look).upstream, model.unit)


def _site(look: Look, apis: list[Api], *, imported: bool, named: bool = False) -> str:
    """`named`: of a further service, with the first one's log."""
    proxy, tls = look.answers.proxy, look.answers.tls
    hosts = served_hosts(look)
    return render(
        "site.caddy.j2",
        sites=", ".join(f"https://{url_host(host)}" for host in hosts),
        http_site=f"http://{tls.domain}" if serves_http(look) else "",
        tls=_tls(look),
        apis=apis,
        imported=imported,
        named=named,
        access_log=proxy.access_log,
        logger=LOGGER,
        log_hosts=" ".join(dict.fromkeys(one for host in hosts for one in (host, url_host(host)))),
        log_filter=_log_filter(),
        hsts=proxy.hsts,
        compression=" ".join(proxy.compression),
        read_timeout=proxy.read_timeout,
        write_timeout=proxy.write_timeout,
        additions="" if named else ADDITIONS,
        errors=_errors(),
        allowed=" ".join(allowed(look)),
        lora_loading=look.answers.harden.lora_loading,
        max_body=chosen(look.answers, "max_body"),
        max_requests=chosen(look.answers, "max_requests"),
        limit=_limit(look),
    )


def _limit(look: Look) -> Limit | None:
    """None where none is asked for, or Caddy has not what it takes."""
    per_minute = look.answers.harden.requests_per_minute
    if not per_minute or (limiter := find_limiter(look)).why_not:
        return None
    unlimited = with_own(look, look.answers.harden.never_ban)
    return Limit(per_minute, " ".join(unlimited), limiter.counts)


def render_metrics(look: Look, upstream: str) -> str:
    """The site that scrapers read, at a port of its own; "" where there are none. This server itself may look, too."""
    harden = look.answers.harden
    if not harden.metrics_from:
        return ""
    services = [("/vllm", upstream), *((metrics_path(one), find_vllm(one.look).upstream) for one in further(look))]
    scrapers = " ".join((*LOOPBACK, *harden.metrics_from))
    return render("metrics.caddy.j2", port=harden.metrics_port, scrapers=scrapers, services=services)


def metrics_path(model: Model) -> str:
    """Where its metrics are read: the first one's at /vllm, another's below, by its path or its name."""
    return f"/vllm/{model.name}" if model.name else "/vllm"


def _tls(look: Look) -> str:
    """The site's tls directive. One issuer is named, so that Caddy asks no other CA where this one fails."""
    tls = look.answers.tls
    if tls.mode == "internal":
        return "tls internal"
    if tls.mode == "custom":
        return f"tls {CERTIFICATE} {KEY}"
    lines = [f"dir {tls.acme_directory}", f"email {tls.email}"]
    lines += [f"trusted_roots {tls.acme_ca_file}"] if tls.acme_ca_file else []
    account = read_eab(look)[0] if tls.eab_file else None
    lines += [f"eab {account.key_id} {{file.{ACCOUNT_KEY}}}"] if account else []
    lines += [] if serves_http(look) else ["disable_http_challenge"]
    inner = "".join(f"\t\t\t{line}\n" for line in lines)
    return f"tls {{\n\t\tissuer acme {{\n{inner}\t\t}}\n\t}}"


def read_eab(look: Look) -> tuple[Account | None, str, str]:
    """The account of the answers' file; or None, what is wrong with the file, and what to do about it."""
    path = look.answers.tls.eab_file or ""
    state = look.server.read(path)
    if state is None or state.kind != "file":
        what = "there is no such file" if state is None else f"it is a {state.kind}, not a file"
        return None, what, "name the file itself in the answers: tls.eab_file"
    if state.owner != "root" or state.mode & 0o077:
        what = f"it belongs to {state.owner} with mode {state.mode:04o}, and has a secret"
        return None, what, f"sudo chown root: {path}; sudo chmod 0600 {path}; then run this again"
    account, wrong = read_account(state.text)
    if account is None:
        return None, wrong, f"it should have two lines, the key id and the MAC key: sudo nano {path}"
    look.mask.add(account.mac_key)
    return account, "", ""


def _log_filter() -> str:
    return render("log_filter.caddy.j2").rstrip("\n")


def _errors() -> str:
    return render("errors.caddy.j2").rstrip("\n")
