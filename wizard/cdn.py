"""Content delivery networks: by their addresses, and by the names that a domain is an alias of."""

from __future__ import annotations

import ipaddress

# https://www.cloudflare.com/ips: what a name that Cloudflare proxies points to.
CLOUDFLARE = tuple(
    ipaddress.ip_network(one)
    for one in (
        *("173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18"),
        *("108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17"),
        *("162.158.0.0/15", "104.16.0.0/13", "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22"),
        *("2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32"),
        *("2a06:98c0::/29", "2c0f:f248::/32"),
    )
)
# By each one's own documentation of the alias that a customer's name gets.
NAMES = {
    "cdn.cloudflare.net": "Cloudflare",
    "cloudfront.net": "Amazon CloudFront",
    "awsglobalaccelerator.com": "AWS Global Accelerator",
    "fastly.net": "Fastly",
    "fastlylb.net": "Fastly",
    "edgekey.net": "Akamai",
    "edgesuite.net": "Akamai",
    "akamaiedge.net": "Akamai",
    "akamai.net": "Akamai",
    "azureedge.net": "Azure CDN",
    "azurefd.net": "Azure Front Door",
    "b-cdn.net": "bunny.net",
    "cdn77.org": "CDN77",
    "gcdn.co": "Gcore",
    "incapdns.net": "Imperva",
    "kxcdn.com": "KeyCDN",
    "vercel-dns.com": "Vercel",
    "netlify.app": "Netlify",
}


def is_cloudflare(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return any(found.version == network.version and found in network for network in CLOUDFLARE)


def find_cdn(names: tuple[str, ...]) -> str:
    """Whose network a chain of aliases leads to; "" where none is known."""
    return next((cdn for name in names for end, cdn in NAMES.items() if f".{name}".endswith(f".{end}")), "")
