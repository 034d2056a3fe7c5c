"""TLS mode acme: Let's Encrypt or any ACME CA. All that can be known is checked before the CA is asked; a failure is
told in plain words, and ends Caddy's attempts: each of them counts against the CA's limits."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from . import eab
from .acme_words import translate
from .caddy_service import CADDYS_LOG, loaded, wanted_admin
from .engine import Look
from .model import Action, FileIs, Finding, Impact, Level, Probe, Run, Wait
from .parse.caddy_admin import DEFAULT_ADMIN, UNIX
from .paths import CADDY_SERVICE
from .server import Response, Server
from .unit_log import LINES

STORAGE = "/var/lib/caddy/.local/share/caddy/certificates"
OWN_CA = "local"  # of mode internal, which Caddy does tell from a public CA
ISSUED = b"(issued by the CA)"
ISSUANCE_S = 180
CLOCK_TOLERANCE_S = 300
DIRECTORY_TIMEOUT_S = 10


def certificate_path(look: Look) -> str:
    """Where Caddy keeps it: one folder a CA."""
    issuer = issuer_directory(look.answers.tls.acme_directory)
    domain = (look.answers.tls.domain or "").lower()
    return f"{STORAGE}/{issuer}/{domain}/{domain}.crt"


def issuer_directory(directory: str) -> str:
    """What Caddy calls the folder of a CA: its directory's address (certmagic's KeyBuilder.Safe)."""
    url = urlsplit(directory)
    return f"{url.netloc}{url.path}".strip("/").replace("/", "-").replace(":", "-").lower()


def is_other(look: Look) -> bool:
    """True if the CA is not Let's Encrypt's own."""
    return "acme_directory" in look.answers.tls.model_fields_set


def is_staging(look: Look) -> bool:
    return "staging" in look.answers.tls.acme_directory


def not_after(look: Look) -> datetime | None:
    """When the certificate that Caddy has ends; None where it has none that is good now."""
    state = look.server.read(certificate_path(look))
    if state is None or state.kind != "file":
        return None
    if state.content == ISSUED:
        return datetime.max.replace(tzinfo=UTC)
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(state.content)
    except ValueError:
        return None
    now = datetime.fromtimestamp(look.server.now(), UTC)
    return certificate.not_valid_after_utc if certificate.not_valid_after_utc > now else None


def judge_certificate(der: bytes, host: str, now: datetime) -> str:
    """What is wrong with a certificate's names and dates, or ""."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        hosts = []
    if host not in hosts:
        return f"the certificate is for {', '.join(hosts) or 'no name'}, not for {host}"
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return f"the certificate is not valid now: it ends {certificate.not_valid_after_utc:%Y-%m-%d}"
    return ""


def check_before(look: Look) -> Iterator[Finding]:
    """DNS, the CA's directory and the clock. With a good certificate in hand, what is wrong only warns of renewal."""
    from .dns import check_dns

    tls = look.answers.tls
    level = Level.WARN if not_after(look) is not None else Level.BLOCKED
    response = look.server.fetch(tls.acme_directory, DIRECTORY_TIMEOUT_S, tls.acme_ca_file)
    directory = directory_of(response)
    yield check_directory(look, response, directory, level)
    yield from eab.check(look, directory, level)
    if is_staging(look):
        yield Finding(
            "tls.staging",
            Level.WARN,
            "the CA's staging directory: clients will not trust its certificates",
            remedy="for real ones remove tls.acme_directory from the answers, and run this again",
        )
    identities = tuple(str(one) for one in (directory or {}).get("meta", {}).get("caaIdentities", ()))
    yield from check_dns(look, tls.domain or "", identities, level=level)
    yield check_clock(look, response)
    yield from check_challenge(look)


def expect_directory(look: Look) -> None:
    tls = look.answers.tls
    look.server.expect_fetch(tls.acme_directory, DIRECTORY_TIMEOUT_S, tls.acme_ca_file)


def check_name(look: Look) -> Iterator[Finding]:
    """DNS for one more name, whose CA and clock are the same."""
    from .dns import check_dns

    tls = look.answers.tls
    level = Level.WARN if not_after(look) is not None else Level.BLOCKED
    directory = directory_of(look.server.fetch(tls.acme_directory, DIRECTORY_TIMEOUT_S, tls.acme_ca_file))
    identities = tuple(str(one) for one in (directory or {}).get("meta", {}).get("caaIdentities", ()))
    yield from check_dns(look, tls.domain or "", identities, level=level)


def directory_of(response: Response) -> dict[str, Any] | None:
    """The ACME directory (RFC 8555 7.1.1), or None where the answer is none."""
    try:
        found = json.loads(response.body) if response.status == 200 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and "newOrder" in found else None


def check_directory(look: Look, response: Response, directory: dict[str, Any] | None, level: Level) -> Finding:
    url = look.answers.tls.acme_directory
    if directory is not None:
        return Finding("tls.acme_directory", Level.OK, f"the CA answers: {url}")
    trusted = "; a private CA's own root belongs into tls.acme_ca_file" if "certificate" in response.error else ""
    said = response.error or (f"{response.status}" if response.status != 200 else "the answer is no ACME directory")
    return Finding(
        "tls.acme_directory",
        level,
        f"the CA does not answer at {url}: {said}",
        remedy=f"try: curl -v {url}{trusted}",
    )


def check_clock(look: Look, response: Response) -> Finding:
    """The CA's own clock, from its Date header: a certificate's dates are judged by clocks."""
    from email.utils import parsedate_to_datetime

    try:
        theirs = parsedate_to_datetime(response.header("Date") or "").timestamp()
    except (ValueError, TypeError):
        return Finding("tls.clock", Level.INFO, "the CA said no time to compare this server's clock with")
    off = look.server.now() - theirs
    if abs(off) <= CLOCK_TOLERANCE_S:
        return Finding("tls.clock", Level.OK, "the clock agrees with the CA's")
    return Finding(
        "tls.clock",
        Level.BLOCKED,
        f"this server's clock is {abs(off) / 60:.0f} minutes {'ahead of' if off > 0 else 'behind'} the CA's",
        remedy="sudo timedatectl set-ntp true; then look: timedatectl",
        evidence={"seconds": round(off)},
    )


def check_challenge(look: Look) -> Iterator[Finding]:
    if look.answers.firewall.http is False:
        yield Finding("tls.challenge", Level.INFO, "port 80 stays closed: the CA comes by 443 alone (TLS-ALPN-01)")


def check_after(look: Look, put_back: tuple[Action, ...]) -> Iterator[Finding]:
    """The certificate: there, or waited for. Where the CA refuses, the configuration goes back: no further attempts."""
    domain = look.answers.tls.domain
    until = not_after(look)
    if until is not None:
        said = "" if until.year == datetime.max.year else f", until {until:%Y-%m-%d}; Caddy renews it"
        yield Finding("tls.issued", Level.OK, f"there is a certificate for {domain}{said}")
        return
    path = certificate_path(look)
    wait = Wait(
        f"a certificate for {domain}",
        f"the CA checks that {domain} is this server",
        ISSUANCE_S,
        Issuance(look),
        makes=(FileIs(path, ISSUED, 0o600, "caddy", "caddy"),),
        otherwise=put_back,
        late=CADDYS_LOG,
        shell=f"certificate_issued {shlex.quote(path)}",
    )
    first = ask_anew(look, put_back) if has_of_another_ca(look) else ()
    yield Finding("tls.issued", Level.DRIFT, f"there is no certificate for {domain} yet", fix=(*first, wait))


def has_of_another_ca(look: Look) -> bool:
    """Whether Caddy has had this name certified by another ACME CA: by the staging one, say."""
    domain = (look.answers.tls.domain or "").lower()
    others = (f"{STORAGE}/{issuer}/{domain}/{domain}.crt" for issuer in look.server.names(STORAGE) if issuer != OWN_CA)
    return any(path != certificate_path(look) and look.server.read(path) is not None for path in others)


def ask_anew(look: Look, put_back: tuple[Action, ...]) -> tuple[Run, ...]:
    """Through any number of reloads Caddy goes on with the certificate that it has in memory for a name, and asks no
    other public CA until that one ends. An empty configuration in between makes it forget."""
    where: tuple[str, ...] = ("http://localhost:2019/load",)
    nothing = "{}"
    if (address := wanted_admin(look)) != DEFAULT_ADMIN:
        # Nothing at all would move it to its own port again.
        where = ("--unix-socket", address.removeprefix(UNIX), "http://localhost/load")
        nothing = json.dumps({"admin": {"listen": address}})
    empty = ("curl", "-fsS", "-m", "30", "-H", "Content-Type: application/json", "-d", nothing, *where)
    why = "Caddy would keep another CA's certificate for this name: it forgets it, for a moment without any site"
    again = loaded(look)
    return (
        Run(empty, why, Impact.RELOAD_CADDY, otherwise=put_back),
        Run(again.argv, "and asks this CA", again.impact, makes=again.makes, otherwise=put_back),
    )


class Issuance:
    """The look of a wait for the CA: Caddy's own words, translated."""

    def __init__(self, look: Look) -> None:
        self._look = look
        # Made at the look, before Caddy's reload: what it said earlier is of another run's attempt.
        self._since = look.server.now()

    def __call__(self, server: Server) -> Probe:
        if not_after(self._look) is not None:
            return Probe(True, "the CA has issued it")
        # Whole seconds, rounded down: a refusal comes within the second, and the next one would be another attempt.
        argv = (*LINES, "-u", CADDY_SERVICE, f"--since=@{int(self._since)}")
        return read_progress(server.query(argv).out, self._look.answers.tls.domain or "", self._since)


def read_progress(journal: str, domain: str, since: float) -> Probe:
    """What Caddy's log says of this name from then on: under way, or failed with its cause."""
    detail = "Caddy asks the CA"
    for line in journal.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if not isinstance(said, dict) or not str(said.get("logger", "")).startswith(("tls", "http.acme_client")):
            continue
        if float(said.get("ts", 0)) < since:
            continue
        message = str(said.get("msg", ""))
        if said.get("identifier") == domain and message == "could not get certificate from issuer":
            return Probe(False, translate(str(said.get("error", ""))))
        detail = STAGES.get(message, detail)
    return Probe(None, detail)


STAGES = {
    "obtaining certificate": "Caddy asks the CA",
    "creating new account because no account for configured email is known to us": "Caddy opens an account at the CA",
    "trying to solve challenge": "the CA connects to this server to check it",
    "served key authentication certificate": "the CA has come by port 443",
    "served key authentication": "the CA has come by port 80",
    "authorization finalized": "the CA is satisfied; it signs",
    "validations succeeded; finalizing order": "the CA is satisfied; it signs",
    "successfully downloaded available certificate chains": "the certificate is here",
}
