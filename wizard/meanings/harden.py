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
}
