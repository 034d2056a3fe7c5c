"""api.blocked and http.redirect: what Caddy serves beside the API, or fails to."""

from __future__ import annotations

from .terms import (
    REPAIR,
    Explanation,
    Seen,
    always,
    answers,
    both,
    caddy_is,
    held,
    late,
    neither,
    nothing_came,
    proxied,
    refused,
)

BLOCKED, REDIRECT = ("api.blocked",), ("http.redirect",)


def is_name(seen: Seen) -> bool:
    return seen.asked.startswith(("Host ", "SNI "))


TABLE = (
    Explanation(
        BLOCKED,
        "no connection",
        nothing_came,
        "Nothing of HTTPS works yet: tls.handshake says why.",
    ),
    Explanation(
        BLOCKED,
        "a foreign Host or SNI is served",
        is_name,
        "A name that is not this server's gets an answer: the Caddyfile has lost its site for all other names.",
        REPAIR,
    ),
    Explanation(
        BLOCKED,
        "no answer to another path",
        answers(0),
        "{seen.asked} gets no answer, where Caddy should say 404: it is passed on to something that hangs.",
        "sudo grep -rn reverse_proxy /etc/caddy",
    ),
    Explanation(
        BLOCKED,
        "vLLM itself answers another path",
        proxied,
        "vLLM itself answers {seen.asked}: lines of yours, or an edited Caddyfile, pass it on.",
        "sudo grep -rn reverse_proxy /etc/caddy",
    ),
    Explanation(
        BLOCKED,
        "502 or 503 for another path",
        answers(502, 503, 504),
        "{seen.asked} would be passed on, were vLLM there: lines of yours, or an edited Caddyfile, do that.",
        "sudo grep -rn reverse_proxy /etc/caddy",
    ),
    Explanation(
        BLOCKED,
        "another program answers",
        held,
        "{seen.holder} answers on port 443, not Caddy.",
        "sudo ss -ltnp 'sport = :443'",
    ),
    Explanation(
        BLOCKED,
        "an empty 200",
        both(answers(200), lambda seen: not seen.response.body),
        "Caddy answers {seen.asked} with an empty 200: the Caddyfile has lost its 404 for all that is not served.",
        REPAIR,
    ),
    Explanation(
        BLOCKED,
        "content that is not vLLM's",
        both(answers(200), lambda seen: bool(seen.response.body)),
        "Caddy answers {seen.asked} with content of its own: lines of yours serve it, or another site's do.",
        "sudo grep -rnE 'respond|file_server' /etc/caddy",
    ),
    Explanation(
        BLOCKED,
        "any other answer",
        always,
        "{seen.asked} has another answer than 404: the Caddyfile is not as it was made.",
        REPAIR,
    ),
    Explanation(
        REDIRECT,
        "connection refused; Caddy does not run",
        both(refused, neither(caddy_is("runs"))),
        "Caddy does not run: tls.handshake says more.",
    ),
    Explanation(
        REDIRECT,
        "another program has port 80",
        held,
        "{seen.holder} has port 80, not Caddy.",
        "sudo ss -ltnp 'sport = :80'",
    ),
    Explanation(
        REDIRECT,
        "connection refused, though Caddy runs",
        refused,
        "Caddy runs, but not on port 80: it has another configuration than it should.",
        REPAIR,
    ),
    Explanation(
        REDIRECT,
        "no answer in time",
        late,
        "This request stays on the server: Caddy hangs, or a rule of this server drops it.",
        "sudo systemctl restart caddy; sudo nft list ruleset",
    ),
    Explanation(
        REDIRECT,
        "404",
        answers(404),
        "Caddy answers on port 80, but knows no {seen.host} there: the Caddyfile is not as it was made.",
        REPAIR,
    ),
    Explanation(
        REDIRECT,
        "200: content over plain http",
        answers(200),
        "Another site of this Caddy answers for {seen.host} over plain http: keys would cross the line in clear.",
        "sudo grep -rnE 'http://|:80' /etc/caddy",
    ),
    Explanation(
        REDIRECT,
        "a redirect, but not for good or not to https",
        answers(301, 302, 303, 307, 308),
        "It leads to {seen.location} with {seen.status}: another site's redirect comes first.",
        "sudo grep -rn redir /etc/caddy",
    ),
    Explanation(REDIRECT, "any other answer", always, "The Caddyfile is not as it was made.", REPAIR),
)
