"""What the caddy step finds."""

from .meaning import Meaning

MEANINGS = {
    "caddy.keyring": Meaning(
        "The key by which apt knows Caddy's packages: the pinned one, and no other, able to sign now. One that has "
        "expired is fetched again; one with another fingerprint is refused, and no list of packages is left behind.",
        "Not fetched: does this server reach the internet (`curl -v` with the address of the text)? Refused: ask "
        "Caddy's maintainers before you trust another key (`caddy.key_fingerprint`).",
    ),
    "caddy.list": Meaning(
        "Whether apt knows Caddy's repository, signed by that key alone. An entry of yours that is as good as ours, a "
        "mirror's too, is left as it is; one that trusts something else blocks, and ours is not put beside it.",
        "Take that entry out, or let it name Caddy's key alone (`signed-by`); the text names its file.",
    ),
    "caddy.prerequisites": Meaning("Whether the packages are there that the repository's own instructions ask for."),
    "caddy.package": Meaning(
        "Whether Caddy is installed, wholly, and from its own repository. A Caddy from elsewhere is kept.",
        "To take the repository's: `sudo apt-get install --reinstall caddy`.",
    ),
    "caddy.service": Meaning(
        "Whether caddy.service is enabled, so that a reboot brings the endpoint back. Masked means that somebody has "
        "forbidden it to run.",
        "Where that is over: `sudo systemctl unmask caddy.service`.",
    ),
    "caddy.custom_build": Meaning(
        "Caddy's service runs a program that no package brought, by its unit or by `dpkg-divert`: updates of the "
        "system never reach it. Beside the package it is only told, unless it is too old for our Caddyfile; without "
        "the package nothing is installed over it.",
        "To go back to the package's: take the lines that name the program out of the unit (`systemctl cat "
        "caddy.service`), move the program and the unit's file away, `sudo systemctl daemon-reload`; or take the "
        "diversion back: `sudo dpkg-divert --rename --remove /usr/bin/caddy`. /etc/caddy stays.",
    ),
    "caddy.held": Meaning(
        "The package is on hold (`apt-mark hold`): no security update reaches it. It blocks where the Caddy that is "
        "there is too old for our Caddyfile.",
        "Where that is over: `sudo apt-mark unhold caddy; sudo apt-get install --only-upgrade caddy`.",
    ),
    "caddy.newer": Meaning(
        "The repository has a newer Caddy. Nothing here needs it, so it is left to the system's own updates: "
        "`sudo apt-get install --only-upgrade caddy`."
    ),
    "caddy.too_old": Meaning(
        "The Caddy that is there lacks what our Caddyfile uses, and the repository that apt knows has none that is "
        "new enough: a mirror that stands still.",
        "See what it has: `sudo apt-get update; apt-cache policy caddy`; or leave `caddy.repository` out of the "
        "answers, for Caddy's own.",
    ),
    "caddy.restored": Meaning(
        "`restore`: the CA, the certificates and the files of the archive are put where they were, after Caddy is "
        "installed and before it needs them. Nothing that is here already is replaced: a CA of this server's own, "
        "which clients may trust, blocks.",
        "Move away what the text names, if nobody needs it; then run the same command again.",
    ),
    "caddy.restored_hosts": Meaning(
        "`restore` in mode internal with `tls.hosts: auto`: clients call addresses or names that the new server does "
        "not have.",
        "Give this server that address, or let the name lead here; or name both in `tls.hosts`.",
    ),
    "caddy.home": Meaning(
        "Caddy does not run, and /var/lib/caddy, where it keeps its CA and certificates, is gone: it is made again. In "
        "mode internal Caddy makes a new CA there, and clients need its root ([clients.md](clients.md)).",
    ),
}
