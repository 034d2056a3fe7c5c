"""Drifts of Caddy: its package, where apt gets it from, its service."""

from tests.lab.drifts.drift import (
    BLOCKED,
    CADDYFILE,
    INSTALL,
    INSTALL_CADDY,
    START_CADDY,
    TAKE_UP,
    WRITE_CADDYFILE,
    Drift,
    put_back,
    with_copy,
)

KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
LIST = "/etc/apt/sources.list.d/caddy-stable.list"
ROOT = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
EXPORT = f"run install -D -m 0644 {ROOT} /etc/vllm-https-setup/root.crt"
REFRESH = (
    f"run apt-get update -q -o Dir::Etc::sourcelist={LIST} -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 "
    "-o APT::Update::Error-Mode=any"
)
FINISH = "run dpkg --configure --force-confdef --force-confold --pending"
OWN_UNIT = "/etc/systemd/system/caddy.service"
STATUS = "/var/lib/dpkg/status"


def in_status(package: str, change: str) -> str:
    """The command that edits what dpkg knows of a package."""
    return f"sed -i '/^Package: {package}$/,/^$/{change}' {STATUS}"


# A web server of somebody's own, under the name of nginx.
OTHER_WEB = (
    "cp /usr/bin/python3 /usr/local/bin/nginx; systemd-run -q --unit=nginx /usr/local/bin/nginx -m http.server {0}; "
    "until ss -Hltn | grep -q ':{0} '; do sleep 0.05; done"
)

CADDY = (
    Drift(
        "Caddy is disabled",
        "systemctl disable -q caddy",
        "caddy.service",
        ("run systemctl enable caddy.service",),
    ),
    Drift("Caddy is stopped", "systemctl stop caddy", "tls.running", (START_CADDY,)),
    Drift(
        "Caddy is masked and stopped",
        "systemctl mask -q --now caddy",
        "caddy.service",
        (START_CADDY,),
        level=BLOCKED,
        stops=("somebody has forbidden it to run", "sudo systemctl unmask caddy.service"),
        by_hand="systemctl unmask -q caddy",
    ),
    Drift("the keyring is gone", f"rm {KEYRING}", "caddy.keyring", (f"write {KEYRING}",)),
    Drift("the keyring is cut off", f"truncate -s 100 {KEYRING}", "caddy.keyring", (f"write {KEYRING}",)),
    Drift("apt can't read the keyring", f"chmod 600 {KEYRING}", "caddy.keyring", (f"write {KEYRING}",)),
    Drift(
        "the keyring has another's key",
        f"cp /usr/share/keyrings/lab-archive-keyring.gpg {KEYRING}",
        "caddy.keyring",
        (f"write {KEYRING}",),
    ),
    Drift("apt's list is gone", f"rm {LIST}", "caddy.list", (f"write {LIST}",)),
    Drift("apt's list is empty", f": >{LIST}", "caddy.list", (f"write {LIST}",)),
    Drift(
        "apt's list trusts any key",
        f"sed -i 's/\\[.*\\] //' {LIST}",
        "caddy.list",
        (f"write {LIST}",),
        kept="deb https://dl.cloudsmith.io",
    ),
    Drift(
        "a file of sources can't be read",
        "echo 'deb [signed-by=/x http://x/ noble main' >/etc/apt/sources.list.d/x.list",
        "preflight.apt_sources",
        level=BLOCKED,
        stops=("x.list, line 1", "sudo mv /etc/apt/sources.list.d/x.list /root/"),
        by_hand="rm /etc/apt/sources.list.d/x.list",
    ),
    Drift(
        "what the repository asks for was removed",
        "apt-get remove -qq apt-transport-https",
        "caddy.prerequisites",
        (f"{INSTALL} -o Dpkg::Options::=--force-confold --no-install-recommends -- apt-transport-https",),
    ),
    Drift(
        "Caddy was removed", "apt-get remove -qq caddy", "caddy.package", (REFRESH, INSTALL_CADDY, TAKE_UP, START_CADDY)
    ),
    Drift(
        "Caddy was purged, and its CA with it",
        "apt-get purge -qq caddy",
        "tls.root",
        (REFRESH, INSTALL_CADDY, TAKE_UP, *WRITE_CADDYFILE, "wait Caddy's own CA", EXPORT),
        new_root=True,
    ),
    Drift(
        "Caddy is one that no package brought",
        f"cp /usr/bin/caddy /usr/local/bin/caddy; cp /lib/systemd/system/caddy.service {OWN_UNIT}; "
        f"sed -i s,/usr/bin/caddy,/usr/local/bin/caddy, {OWN_UNIT}; apt-get remove -qq caddy; "
        "systemctl daemon-reload; systemctl enable -q --now caddy",
        "caddy.custom_build",
        # Its script leaves it as it was: not enabled, and not started.
        (REFRESH, INSTALL_CADDY, TAKE_UP, "run systemctl enable caddy.service", START_CADDY),
        level=BLOCKED,
        stops=(f"/usr/local/bin/caddy, run by {OWN_UNIT}", f"sudo mv {OWN_UNIT} /usr/local/bin/caddy /root/"),
        by_hand=f"systemctl disable --now caddy.service; mv {OWN_UNIT} /usr/local/bin/caddy /root/; "
        "systemctl daemon-reload",
    ),
    Drift(
        "Caddy is too old a version",
        in_status("caddy", "s/^Version: .*/Version: 2.5.2/"),
        "caddy.package",
        (REFRESH, INSTALL_CADDY),
    ),
    Drift(
        "Caddy's installation was cut off",
        in_status("caddy", "s/^Status: .*/Status: install ok half-configured/"),
        "caddy.package",
        (REFRESH, FINISH, INSTALL_CADDY.replace(" -- ", " --reinstall -- ")),
    ),
    Drift(
        "another package's installation was cut off",
        in_status("netbase", "s/^Status: .*/Status: install ok half-configured/"),
        "preflight.packages",
        level=BLOCKED,
        stops=("packages are only half installed: netbase", "sudo dpkg --configure -a"),
        by_hand="dpkg --configure netbase",
    ),
    Drift(
        "no name is resolved, and Caddy is gone",
        "cp /etc/resolv.conf /root/kept; apt-get remove -qq caddy; : >/etc/resolv.conf",
        "caddy.package",
        (REFRESH, INSTALL_CADDY, TAKE_UP, START_CADDY),
        stops=("apt-get update", "resolv"),
        code=1,
        by_hand="cat /root/kept >/etc/resolv.conf",
    ),
    Drift(
        "another web server has port 443",
        f"systemctl stop caddy; {OTHER_WEB.format(443)}",
        "preflight.web_ports",
        (START_CADDY,),
        level=BLOCKED,
        stops=("nginx (nginx.service) listens on port 443", "sudo systemctl disable --now nginx.service"),
        by_hand="systemctl stop nginx",
    ),
    Drift(
        "another web server has port 80",
        OTHER_WEB.format(80),
        "preflight.web_ports",
        level=BLOCKED,
        stops=("nginx (nginx.service) listens on port 80", "sites-enabled"),
        by_hand="systemctl stop nginx",
    ),
    Drift(
        "the Caddyfile is a link",
        f"mv {CADDYFILE} /root/kept; ln -s /root/kept {CADDYFILE}",
        "tls.caddyfile",
        level=BLOCKED,
        stops=(f"{CADDYFILE} is a link", f"ls -l {CADDYFILE}"),
        by_hand=put_back(CADDYFILE),
    ),
    Drift(
        "the saved answers are gone",
        "mv /etc/vllm-https-setup/answers.yaml /root/kept",
        "",
        level="error",
        stops=("there are no saved answers", "--answers F"),
        code=2,
        by_hand=put_back("/etc/vllm-https-setup/answers.yaml"),
    ),
    Drift(
        "the saved answers are of another version",
        with_copy(
            "/etc/vllm-https-setup/answers.yaml",
            'sed -i \'s/"version": 1/"version": 0/\' /etc/vllm-https-setup/answers.yaml',
        ),
        "version",
        level="error",
        stops=("this program cannot read version 0",),
        code=2,
        by_hand=put_back("/etc/vllm-https-setup/answers.yaml"),
    ),
    Drift(
        "the saved answers have a key that is no longer known",
        with_copy(
            "/etc/vllm-https-setup/answers.yaml",
            'sed -i \'s/"version": 1/"version": 1, "prox": {}/\' /etc/vllm-https-setup/answers.yaml',
        ),
        "prox",
        level="error",
        stops=("prox", "proxy"),
        code=2,
        by_hand=put_back("/etc/vllm-https-setup/answers.yaml"),
    ),
)
