"""What the harden step finds."""

from .meaning import Meaning

MEANINGS = {
    "harden.requests": Meaning(
        "The limits of `harden` that Caddy keeps: a request that is too large gets 413, one more than vLLM is to have "
        "at once 503 with `Retry-After`, and whoever sends too slowly is cut off.",
    ),
    "harden.slow_clients": Meaning(
        "Time limits for requests are among Caddy's global options, and those are yours where your Caddyfile is kept.",
        "Add the line that is named to the first block of your Caddyfile.",
    ),
    "harden.allow_from": Meaning(
        "Who may use the API by `harden.allow_from`. All others get 403 from Caddy, with any key; the port answers "
        "them, so that a CA can reach it.",
    ),
    "harden.own_address": Meaning(
        "The address that you have logged in from is not among those that may use the API. SSH is not concerned.",
        "Add it to `harden.allow_from`, if you want to call the API from there.",
    ),
    "harden.sandbox": Meaning(
        "Whether systemd confines Caddy and vLLM to what they need (`harden.sandbox`): a drop-in beside the unit, each "
        "line of which has its reason; the process itself is looked at, too. How much is left to it is what "
        "`systemd-analyze security` says, from 0 to 10. vLLM keeps its GPUs, its shared memory, its caches, and memory "
        "that is written and run; not confined is one that starts containers or changes its user by itself, or whose "
        "start can't be read for certain.",
        "Let its unit start vLLM itself, under its own user; or leave it out: `harden: {sandbox: [caddy]}`.",
    ),
    "harden.sandbox_left": Meaning("A service is to be confined no more: the drop-in goes, and it is restarted."),
    "harden.admin_socket": Meaning(
        "Caddy takes orders by a socket in /run/caddy that only root and Caddy can use, and at no port: whoever can "
        "give it orders can send what clients say elsewhere.",
    ),
    "harden.admin_open": Meaning(
        "Any local user, vLLM's among them, can give Caddy orders: its admin endpoint is a global option, and those "
        "are yours where your Caddyfile is kept.",
        "Add the line that is named to the first block of your Caddyfile, and restart Caddy once: a reload asks at the "
        "new address, where nobody is yet.",
    ),
}
