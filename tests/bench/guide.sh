#!/bin/sh
# The guide's commands by hand, as root on a server: what any installer is measured against.
# No checks, no proof, no way back; the second run does what the first did.
# usage: guide.sh [SITE [TLS]]
#   SITE  what clients will call; this server's first address where none is given
#   TLS   how the site gets its certificate, as Caddyfile: `tls internal` where it is not given. With another the way in
#         by HTTP is opened as well, and the script ends when the site has its certificate.
set -eu
address=${1:-$(hostname -I | cut -d' ' -f1)}
tls=${2:-tls internal}
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

# Caddy, from its own repository
apt-get install -y -q debian-keyring debian-archive-keyring apt-transport-https curl
curl -1sLf https://dl.cloudsmith.io/public/caddy/stable/gpg.key |
    gpg --batch --yes --dearmor -o /usr/share/keyrings/caddy-stable-archive-keyring.gpg
curl -1sLf https://dl.cloudsmith.io/public/caddy/stable/debian.deb.txt >/etc/apt/sources.list.d/caddy-stable.list
chmod o+r /usr/share/keyrings/caddy-stable-archive-keyring.gpg /etc/apt/sources.list.d/caddy-stable.list
apt-get update -q
apt-get install -y -q caddy

# the firewall
ufw allow ssh
ufw allow 443/tcp
[ "$tls" = "tls internal" ] || ufw allow 80/tcp
ufw --force enable

# vLLM on loopback only
sed -i 's/--host 0\.0\.0\.0/--host 127.0.0.1/' /opt/vllm/start-vllm.sh
systemctl restart vllm
until curl -sf -o /dev/null http://127.0.0.1:8000/health; do sleep 0.1; done

# the proxy
cat >/etc/caddy/Caddyfile <<CADDYFILE
https://$address {
	$tls
	encode zstd gzip
	header {
		Strict-Transport-Security "max-age=31536000; includeSubDomains; preload"
		X-Content-Type-Options nosniff
		X-Frame-Options DENY
		Referrer-Policy no-referrer
		-Server
	}
	handle /v1/* {
		reverse_proxy 127.0.0.1:8000 {
			transport http {
				read_timeout 3600s
				write_timeout 3600s
			}
		}
	}
	handle {
		respond 404
	}
}
CADDYFILE
systemctl restart caddy
[ "$tls" = "tls internal" ] ||
    until curl -sk -o /dev/null --connect-to "$address::127.0.0.1:" "https://$address/"; do sleep 0.1; done
