"""tls.handshake and tls.trusted: why no client gets as far as a request."""

from __future__ import annotations

from .terms import (
    REPAIR,
    STATUS,
    Explanation,
    always,
    both,
    caddy_is,
    held,
    late,
    mode_is,
    no_root,
    refused,
    says,
)

HANDSHAKE, TRUSTED = ("tls.handshake",), ("tls.trusted",)
LOG = "sudo journalctl -u caddy -n 30"

# Words of OpenSSL, as exchange.py passes them on.
no_certificate = says("alert internal error", "unrecognized name")
no_tls = says("wrong version number", "record layer failure", "packet length too long", "http request")
old_tls = says("unsupported protocol", "protocol version", "handshake failure", "no protocols available")
expired = says("has expired", "is not valid now")
too_early = says("not yet valid")
other_name = says("mismatch", "the certificate is for")
own_issuer = says("accepted: self-signed certificate", "accepted: self signed certificate")
unknown_issuer = says("accepted:")
broke_off = says("reset by peer", "unexpected eof", "eof occurred", "closed connection")
no_address = says("no route to host", "network is unreachable", "assign requested address")

TABLE = (
    Explanation(
        (*HANDSHAKE, *TRUSTED),
        "no root certificate to compare with",
        no_root,
        "The root certificate that clients trust is not at {seen.ca_file}.",
        REPAIR,
    ),
    Explanation(
        HANDSHAKE,
        "connection refused; Caddy is not installed",
        both(refused, caddy_is("missing")),
        "Caddy is not installed on this server.",
        REPAIR,
    ),
    Explanation(
        HANDSHAKE,
        "connection refused; Caddy does not run",
        both(refused, caddy_is("stopped")),
        "Caddy is stopped, or has failed. Start it; where it does not start, its last words say why.",
        "sudo systemctl restart caddy || journalctl -u caddy -n 20",
    ),
    Explanation(
        HANDSHAKE,
        "connection refused, though Caddy runs",
        refused,
        "Caddy runs, but does not listen on {seen.address} port 443: it has another configuration than it should.",
        REPAIR,
    ),
    Explanation(
        HANDSHAKE,
        "no answer in time",
        late,
        "This request stays on the server, so no provider's firewall is in its way: Caddy hangs, or a rule drops it.",
        "sudo systemctl restart caddy; sudo nft list ruleset",
    ),
    Explanation(
        HANDSHAKE,
        "another program answers on port 443",
        both(held, says("tls:", "certificate")),
        "{seen.holder} answers on port 443, not Caddy.",
        "sudo ss -ltnp 'sport = :443'",
    ),
    Explanation(
        HANDSHAKE,
        "alert: internal error (mode acme)",
        both(no_certificate, mode_is("acme")),
        "Caddy has no certificate for {seen.host}: the CA has not issued one. Caddy's log has the CA's reason.",
        "sudo journalctl -u caddy -n 30 --grep='obtain|challenge'",
    ),
    Explanation(
        HANDSHAKE,
        "alert: internal error",
        no_certificate,
        "Caddy has no certificate for {seen.host}: its configuration is for other names, or could not load yours.",
        REPAIR,
    ),
    Explanation(
        HANDSHAKE,
        "no TLS on port 443",
        no_tls,
        "What answers on port 443 speaks no TLS: Caddy's configuration is another, or it is not Caddy.",
        "sudo ss -ltnp 'sport = :443'",
    ),
    Explanation(
        HANDSHAKE,
        "TLS older than 1.2",
        old_tls,
        "No TLS 1.2 or newer could be agreed on: lines of yours limit it, or it is not Caddy that answers.",
        "grep -rnE 'protocols|ciphers' /etc/caddy",
    ),
    Explanation(
        HANDSHAKE,
        "certificate expired (mode internal)",
        both(expired, mode_is("internal")),
        "Caddy renews it every few hours: this clock has jumped, or Caddy could not write. Compare the time first.",
        "timedatectl; sudo systemctl restart caddy",
    ),
    Explanation(
        HANDSHAKE,
        "certificate expired (mode acme)",
        both(expired, mode_is("acme")),
        "The CA did not renew it, and Caddy's log says why; or this server's clock is ahead. Compare the time first.",
        "timedatectl; sudo journalctl -u caddy -n 30 --grep=renew",
    ),
    Explanation(
        HANDSHAKE,
        "certificate expired (mode custom)",
        expired,
        "Your certificate has ended, or this clock is ahead. New files in its place are taken up by themselves.",
        "timedatectl; sudo vllm-https-setup status",
    ),
    Explanation(
        HANDSHAKE,
        "certificate not yet valid",
        too_early,
        "The certificate begins later than this server's clock says: the clock is behind.",
        "sudo timedatectl set-ntp true; timedatectl",
    ),
    Explanation(
        HANDSHAKE,
        "certificate for other names (mode internal)",
        both(other_name, mode_is("internal")),
        "The certificate is not for {seen.host}: has this server got another address, or another name?",
        REPAIR,
    ),
    Explanation(
        HANDSHAKE,
        "certificate for other names",
        other_name,
        "The certificate is not for {seen.host}: tls.domain is another name, or another site answers for it.",
        STATUS,
    ),
    Explanation(
        HANDSHAKE,
        "certificate of an unknown issuer",
        unknown_issuer,
        "TLS itself works; the issuer of the certificate is not trusted: tls.trusted says why.",
    ),
    Explanation(
        HANDSHAKE,
        "the connection was broken off",
        broke_off,
        "Caddy broke off: it was restarting just then, or has died. Look, then test again.",
        "systemctl status caddy; sudo vllm-https-setup test",
    ),
    Explanation(
        HANDSHAKE,
        "no way to the address",
        no_address,
        "This server does not have the address {seen.address} any more.",
        "ip -brief address; sudo vllm-https-setup repair",
    ),
    Explanation(HANDSHAKE, "anything else", always, "Caddy's log may say more about it.", LOG),
    Explanation(
        TRUSTED,
        "certificate expired, not yet valid, or for other names",
        lambda seen: expired(seen) or too_early(seen) or other_name(seen),
        "Not the issuer but the certificate itself is refused: tls.handshake says why.",
    ),
    Explanation(
        TRUSTED,
        "unknown issuer (mode internal)",
        both(unknown_issuer, mode_is("internal")),
        "Caddy's CA has another root than the one that clients have. Repair; then give them the new root.crt.",
        REPAIR,
    ),
    Explanation(
        TRUSTED,
        "self-signed (mode custom)",
        both(own_issuer, mode_is("custom")),
        "It is its own issuer: clients have to be given it. This server: /usr/local/share/ca-certificates/NAME.crt",
        "sudo update-ca-certificates",
    ),
    Explanation(
        TRUSTED,
        "unknown issuer (mode custom)",
        both(unknown_issuer, mode_is("custom")),
        "tls.certificate lacks its intermediates; or your own CA's root is not in /usr/local/share/ca-certificates.",
        "sudo vllm-https-setup status; sudo update-ca-certificates",
    ),
    Explanation(
        TRUSTED,
        "unknown issuer (mode acme)",
        unknown_issuer,
        "This system does not know the CA: its certificates are old, or the CA is private (tls.acme_ca_file).",
        "sudo apt-get install --only-upgrade ca-certificates",
    ),
    Explanation(TRUSTED, "no certificate was seen", always, "No certificate came: tls.handshake says why."),
)
