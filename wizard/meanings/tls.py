"""What the tls step finds, in its three modes."""

from .meaning import Meaning

CHANGE_MODE = "`tls: {mode: internal}` needs no public name."
MEANINGS = {
    "tls.hosts": Meaning(
        "The addresses and names that are in the certificate of mode internal: clients may call these.",
        "Name one: `tls: {hosts: [10.0.0.5]}`.",
    ),
    "tls.caddyfile": Meaning(
        "Whether the Caddyfile is the one for this endpoint: `/v1/*` goes to vLLM, all else is 404. It is validated as "
        "the user caddy before it takes its place. One with sites of others, or edited by hand, is handled as "
        "`caddy.existing_config` and `caddy.edited_config` say.",
        "Sites of others: answer `caddy: {existing_config: keep}` (ours is imported) or `replace`. Edited: "
        "`caddy: {edited_config: replace}`, or undo the edit; your own additions belong into /etc/caddy/vllm-https.d.",
    ),
    "tls.running": Meaning(
        "Whether Caddy runs, and runs what its file says: what it has loaded is compared with the file. Else it is "
        "reloaded, or started.",
    ),
    "tls.additions": Meaning(
        "Lines of yours in /etc/caddy/vllm-https.d that Caddy refuses: it runs its old configuration on, and would not "
        "start again. The text has Caddy's own reason.",
        "Put the line right, or move the file away; check with `caddy validate --config /etc/caddy/Caddyfile`.",
    ),
    "tls.root": Meaning(
        "Mode internal: Caddy's root certificate, exported to /etc/vllm-https-setup/root.crt for clients. Where Caddy "
        "has another root now, it is exported again, and clients need the new one ([clients.md](clients.md)).",
    ),
    "tls.leaf": Meaning(
        "Mode internal: whether the certificate that clients are shown is signed under the CA's root of now. Where "
        "somebody has deleted the CA (the directory `pki`), Caddy makes a new one and shows the old certificate on; it "
        "is made anew, too.",
    ),
    "tls.root_left": Meaning("Another mode is used now: the exported root of mode internal is removed."),
    "tls.site_left": Meaning("The Caddyfile is ours as a whole again: the imported file is removed."),
    "tls.custom_left": Meaning("Another mode is used now: the copies and units of mode custom are removed."),
    "tls.existing_config": Meaning(
        "Your own Caddyfile and our site don't go together: Caddy says why.",
        "Mostly it is a Caddyfile with one site and no braces: put your site into braces, then check with "
        "`caddy validate --config /etc/caddy/Caddyfile`.",
    ),
    "tls.existing_site": Meaning(
        "Your own Caddyfile has a site of the endpoint's name.",
        "Take that name out of it, or answer `caddy: {existing_config: replace}`.",
    ),
    "tls.existing_admin": Meaning(
        "Your own Caddyfile switches Caddy's admin endpoint off: no reload would be possible.",
        "Take `admin off` out of its global options.",
    ),
    "tls.existing_sni": Meaning(
        "Clients that call an address send no name, and your own Caddyfile does not say which certificate they get.",
        "Add `default_sni` and `fallback_sni` with the address to its global options, as the text says.",
    ),
    "tls.acme_directory": Meaning(
        "Whether the CA's directory answers. With a good certificate in hand it only warns, here and in all that "
        "concerns DNS: the renewal is what is at risk.",
        "`curl -v` with the address of the text; a private CA's own root belongs into `tls.acme_ca_file`.",
    ),
    "tls.staging": Meaning(
        "The CA's staging directory is used: clients will not trust its certificates.",
        "For real ones remove `tls.acme_directory` from the answers, and run this again.",
    ),
    "tls.clock": Meaning(
        "This server's clock compared with the CA's: a certificate's dates are judged by clocks.",
        "`sudo timedatectl set-ntp true`; then look: `timedatectl`.",
    ),
    "tls.challenge": Meaning(
        "Port 80 stays closed, as the answers say: the CA checks by port 443 alone (TLS-ALPN-01)."
    ),
    "tls.issued": Meaning(
        "Whether Caddy has a certificate of this CA for the domain. Else it is waited for. Where the CA refuses, its "
        "reason is told, and the configuration goes back: further attempts would count against its limits.",
    ),
    "tls.dns_unreachable": Meaning(
        "The domain's address could not be asked for: no resolver answers, or the domain's own servers fail.",
        "`dig` with the domain; then /etc/resolv.conf, and whether port 53 is open outwards. SERVFAIL is mostly "
        "DNSSEC: `dig +cd` answers then.",
    ),
    "tls.dns_cname": Meaning(
        "The domain is an alias, and where it ends. A circle ends nowhere, and blocks.",
        "Replace the CNAME record that the text names by an A record with this server's address.",
    ),
    "tls.dns_address": Meaning(
        "Whether the A record leads to this server: compared with its interfaces, the cloud's metadata, or "
        "`tls.public_addresses`. Unknown is a warning.",
        "Let the record say what the text says; behind Cloudflare “DNS only”. Where the address does lead here, answer "
        "it as `tls.public_addresses`.",
    ),
    "tls.dns_ipv6": Meaning(
        "Whether the AAAA record leads to this server: a CA tries IPv6 first, however right the A record is.",
        "Remove a stray AAAA record, or let it say this server's own address.",
    ),
    "tls.dns_private": Meaning(
        "The domain leads to a private address, which a public CA cannot reach.",
        f"Let the record say the public address; or {CHANGE_MODE}",
    ),
    "tls.dns_authoritative": Meaning(
        "Whether the domain's own name servers agree with each other, and with this server's resolver.",
        "Wait until all have the new zone: the text says for how long an old answer may be kept.",
    ),
    "tls.dns_caa": Meaning(
        "Whether CAA records let this CA issue for the domain; a parent's hold where it has none itself.",
        "Add the record of the text at your DNS provider, or remove the one that is in the way.",
    ),
    "tls.certificate": Meaning(
        "Mode custom: your certificate and key, as they are where the answers say.",
        "Name the files: `tls.certificate` (your certificate first, then the intermediates) and `tls.private_key`.",
    ),
    "tls.certificate_refused": Meaning(
        "Your pair can't be used: expired, another name, a key of another certificate, encrypted, out of order. Caddy "
        "would take some of these without a word; clients would not.",
        "The text says what is wrong with which file, and how it is put right.",
        levels=("blocked",),
    ),
    "tls.certificate_doubtful": Meaning(
        "Your pair can be used, and some clients may have trouble with it: no intermediate, self-signed, soon to end.",
        "The text says which, and what would be better.",
        levels=("warn",),
    ),
    "tls.copies": Meaning(
        "Whether Caddy has copies of this pair in /etc/caddy/vllm-https, the key readable for Caddy alone.",
    ),
    "tls.watch": Meaning(
        "Whether the files are watched: a renewed pair is checked, copied and loaded by itself.",
    ),
    "tls.eab": Meaning(
        "The CA issues only for accounts that were made beforehand (external account binding). Its key is read from "
        "a file of root's, and Caddy gets a copy that nobody else can read.",
        "Take a key id and a MAC key from the CA, write them to a file (a line each), `sudo chown root: FILE; sudo "
        "chmod 0600 FILE`, and answer `tls: {eab_file: FILE}`.",
    ),
    "tls.eab_left": Meaning("The copy of the key of a CA's account, which no answer uses any more: it is removed."),
    "tls.hosts_translated": Meaning(
        "An address that clients are to call is of no interface here: something translates it. Clients that call an "
        "address send no name, so they would be shown another address's certificate.",
        "Name that address alone in `tls.hosts`, or have clients call a name, and list that.",
    ),
    "tls.key_readable": Meaning(
        "The private key's own file can be read by others on this server: whoever has it can pose as this server.",
        "`sudo chmod 0600` with the path of the text. The copy that Caddy reads is for Caddy alone in any case.",
    ),
    "tls.admin_directory": Meaning(
        "`harden.admin_socket`: a drop-in of caddy.service that has systemd make /run/caddy, which the admin socket is "
        "in, for the user caddy alone.",
    ),
    "tls.admin_left": Meaning("The admin socket is turned off: the drop-in that makes its directory is removed."),
}
