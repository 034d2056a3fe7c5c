"""What the caddy step finds."""

from .meaning import Meaning

MEANINGS = {
    "caddy.keyring": Meaning(
        "The key by which apt knows Caddy's packages: the pinned one, and no other, able to sign now. One that has "
        "expired is fetched again; one with another fingerprint is refused, and no list of packages is left behind.",
        "Not fetched: does this server reach the internet (`curl -v` with the address of the text)? Refused: ask "
        "Caddy's maintainers before you trust another key (`caddy.key_fingerprint`).",
    ),
    "caddy.list": Meaning("Whether apt knows Caddy's repository, signed by that key alone."),
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
}
