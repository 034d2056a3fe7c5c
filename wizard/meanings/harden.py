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
    "harden.requests_per_minute": Meaning(
        "A limit of requests is asked for (`harden.requests_per_minute`), and the Caddy that is there can't keep one, "
        "or would lose it with the next update and not start: so the Caddyfile has none. Caddy itself is never "
        "replaced by this program.",
        "Limit connections in its place, which the kernel does; or put a build of Caddy with the module in the "
        'package\'s place, so that dpkg knows of it: docs/security.md, "Requests a minute", has the commands.',
    ),
    "harden.allow_from": Meaning(
        "Who may use the API by `harden.allow_from`. All others get 403 from Caddy, with any key; the port answers "
        "them, so that a CA can reach it.",
    ),
    "harden.own_address": Meaning(
        "The address that you have logged in from is not among those that may use the API. SSH is not concerned.",
        "Add it to `harden.allow_from`, if you want to call the API from there.",
    ),
    "harden.nftables": Meaning(
        "nftables, the tool that limits of connections and bans are made with. Ubuntu's servers have it.",
    ),
    "harden.connections": Meaning(
        "What one address may have of connections to ports 80 and 443 (`harden.connections_per_address`, "
        "`harden.new_connections_per_minute`): more are refused by the kernel, before they cost Caddy anything. An "
        "address of IPv6 counts with its /64. The table `vllm-https` of nftables is compared with its file: where "
        "somebody has flushed it, it is loaded again.",
        "Where somebody has masked the unit that loads it, that is theirs to take back.",
    ),
    "harden.connections_left": Meaning(
        "Limits that nobody asks for any more: their table, the unit that loads it, and its file go.",
    ),
    "harden.bans": Meaning(
        "Who sends wrong keys is shut out of ports 80 and 443 for a while (`harden.ban_wrong_keys`, `ban_after`, "
        "`ban_seconds`): a filter and a jail of fail2ban, for Caddy's access log. SSH is never shut by it. This "
        "server, `harden.never_ban`, and where operators log in from, are never banned.",
    ),
    "harden.fail2ban": Meaning(
        "fail2ban runs, has our files as they are, and reads the access log. Where a run has installed it, the jail "
        "for SSH that its package switches on is off; where it was there before, all else that it does stays.",
        "Where somebody has masked its unit, that is theirs to take back.",
    ),
    "harden.banned": Meaning(
        "Who is banned now. Before its time: `sudo fail2ban-client set vllm-https unbanip ADDRESS`; for good: "
        "`harden.never_ban`.",
    ),
    "harden.bans_left": Meaning(
        "Bans that nobody asks for any more: our files go, and fail2ban with them where a run had brought it.",
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
    "harden.watch": Meaning(
        "A timer looks at all, and runs the final test, every `harden.watch_minutes`. What has changed since is a line "
        "in the journal (`journalctl -u vllm-https-setup-watch`), and is told to `harden.notify_command` and "
        "`harden.notify_url`; where nothing has changed, nothing is said.",
    ),
    "harden.watch_left": Meaning("The watch is no longer wanted: its units are removed."),
    "harden.notify_url": Meaning(
        "Where each change is posted to, as JSON. The address may let in whoever knows it: it is in the answers, which "
        "only root can read, and shown nowhere else.",
    ),
    "harden.notify_command": Meaning(
        "The program that root runs on each change. It must be root's, and neither it nor a directory above it may be "
        "writable by others: whoever could change it could do anything.",
        "`sudo chown root: FILE; sudo chmod 0755 FILE`, in a directory of root's such as /usr/local/bin.",
    ),
    "harden.prometheus_file": Meaning(
        "The text file of metrics that each look of the watch writes. Its directory must be there, and root's alone; a "
        "file that is not from here is not written over.",
        "Make the directory, or name another: `harden: {prometheus_file: …}`.",
    ),
    "harden.prometheus_left": Meaning("A text file of metrics that is no longer asked for: it is removed."),
    "harden.metrics": Meaning(
        "Who may read Caddy's and vLLM's metrics, and where. They are not encrypted, and never on the public site: the "
        "firewall opens their port to the addresses of `harden.metrics_from` alone, and Caddy answers 403 to others.",
    ),
    "harden.metrics_port": Meaning(
        "Another program listens on `harden.metrics_port`: Caddy could not be reloaded.",
        "Answer a port that is free: `harden: {metrics_port: 9181}`.",
    ),
    "harden.metrics_public": Meaning(
        "An address that may read the metrics is one of the internet: they would cross it in clear.",
        "Let the scraper come by a VPN or a private network.",
    ),
    "harden.metrics_open": Meaning(
        "`firewall: {manage: false}`: whom the firewall lets reach the metrics is yours to say. Caddy answers 403 to "
        "all but the scrapers.",
    ),
    "harden.metrics_option": Meaning(
        "Your Caddyfile is kept, and what Caddy counts of requests is one of its global options.",
        "Add the line `metrics` to the first block of your Caddyfile.",
    ),
}
