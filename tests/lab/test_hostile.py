"""Whoever owns /opt/vllm may plant there what he likes, and a caller bring along what he likes: nothing of it reaches
what runs as root, nothing outside is read out, written or changed, and nobody waits for ever. Two servers for all."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.archive import STABLE
from tests.lab.machine import Result
from tests.lab.operator import RUNS, Operator, changes_of, findings, in_words, troubles
from tests.lab.space import Deadline
from tests.lab.spec import START_VLLM
from tests.lab.unchanged import left

pytestmark = pytest.mark.lab

SCRIPT, SHADOW = "/opt/vllm/start-vllm.sh", "/etc/shadow"
UNITS = "/etc/systemd/system"
STATE, LOG = "/var/lib/vllm-https-setup", "/var/log/vllm-https-setup"
# A password hash, as /etc/shadow has them: what must never be seen elsewhere.
HASH = "$6$canaryOfShadow$0a1B2c3D4e5F6g7H8i9J"
TOKEN = "tok-of-root-7Q2xY3zzLk9vT0"
GOOD = START_VLLM.format(spec=ServerSpec())
ENDLESS = 60  # seconds; a look takes two


@pytest.fixture(scope="module")
def planted(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of an exposed server whose root has secrets. Each test takes back what it plants."""
    server = lab.boot(ServerSpec(layers=(program,)))
    operator = Operator(lab, server)
    server.run(["usermod", "-p", HASH, "operator"])
    server.put("/root/token", TOKEN.encode(), 0o644)
    server.put("/etc/vllm/token", TOKEN.encode(), 0o600)
    operator.say("plan --answers answers.yaml")
    yield operator
    server.discard()


@pytest.fixture
def settled(planted: Operator) -> Operator:
    """The same, set up: by the caller's test, where that was run before."""
    if planted.file("/usr/bin/caddy") is None:
        document = planted.apply()
        assert document["exit_code"] == 0, troubles(document)
    return planted


def as_vllm(operator: Operator, line: str) -> Result:
    """What the user vllm can do himself."""
    return operator.server.run(["runuser", "-u", "vllm", "--", "sh", "-euc", line])


def put_back(operator: Operator) -> None:
    operator.server.run(["rm", "-rf", SCRIPT])
    operator.server.put(SCRIPT, GOOD.encode(), 0o755, "vllm:vllm")


def outside(operator: Operator) -> str:
    """What vllm's planting aims at, as it is: mode, owner, times and content."""
    files = [SHADOW, "/etc/passwd", "/etc/sudoers", "/root/token", "/etc/vllm/token", "/root", "/etc/vllm"]
    stated = operator.server.run(["stat", "-c", "%n %a %U:%G %i %s %Y %Z", *files]).stdout
    return stated + operator.server.run(["sh", "-c", f"sha256sum {SHADOW} /etc/sudoers /root/token"]).stdout


def files_of_root(operator: Operator) -> str:
    """Root's files as vllm may have changed them; but for Caddy's user, who comes and goes with the package."""
    files = f"/etc/passwd {SHADOW} /etc/sudoers /root/token"
    return operator.server.run(["sh", "-c", f"grep -v '^caddy:' {files}; stat -c '%n %a %U:%G' {files}"]).stdout


def assert_told_nothing(result: Result) -> None:
    said = result.stdout + result.stderr
    assert HASH not in said and TOKEN not in said and "canaryOfShadow" not in said
    assert "Traceback" not in said and "should not have happened" not in said


HEAD = "#!/bin/bash\n"
VIA_LINK = f"{HEAD}source /opt/vllm/s/c\nexec vllm serve m --config /opt/vllm/s/c"
# What vllm does, and what is said: "" where the script is read as vllm himself could.
PLANTS: Mapping[str, tuple[str, str]] = {
    "a link to what is root's": (f"ln -s {SHADOW} {SCRIPT}", "is a link to /etc/shadow"),
    "a link to a device": (f"ln -s /dev/zero {SCRIPT}", "is a link to /dev/zero"),
    "a FIFO": (f"mkfifo {SCRIPT}", "was not found"),
    "a socket": (f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{SCRIPT}\")'", "was not found"),
    "a directory": (f"mkdir {SCRIPT}", "was not found"),
    "gigabytes": (f"truncate -s 5G {SCRIPT}", "has more than 16 MiB: not read"),
    "megabytes of text": (
        f"echo '{HEAD}' >{SCRIPT}; yes 'A=1; echo $A' | head -c 4000000 >>{SCRIPT}; chmod +x {SCRIPT}",
        "it has more than 64 KiB",
    ),
    "a program": (f"cp /bin/true {SCRIPT}", "it is a program, not a shell script"),
    "a key of root's, where all may read but not enter": (
        f"echo '{HEAD}export VLLM_API_KEY=\"$(cat /root/token)\"\nexec vllm serve m' >{SCRIPT}",
        "",
    ),
    "a key of root's, where all may enter but not read": (
        f"echo '{HEAD}set -a\nsource {SHADOW}\nVLLM_API_KEY=$(cat /etc/vllm/token)\nexec vllm serve m' >{SCRIPT}",
        "",
    ),
    "a link on the way": (
        f"mkdir /opt/vllm/s; ln -s {SHADOW} /opt/vllm/s/c; echo '{VIA_LINK}' >{SCRIPT}",
        "",
    ),
}


@pytest.mark.parametrize("what", PLANTS)
def test_what_is_planted_in_the_launch_scripts_place_is_refused_or_read_as_vllm_could(
    planted: Operator, what: str
) -> None:
    """Within a gigabyte of address space, and in time."""
    line, words = PLANTS[what]
    before = outside(planted)
    as_vllm(planted, f"rm -f {SCRIPT}; {line}")
    try:
        began = time.monotonic()
        typed = "sudo prlimit --as=1000000000 vllm-https-setup plan --answers answers.yaml --json"
        shown = planted.server.ssh(typed, check=False)
        assert time.monotonic() - began < ENDLESS
    finally:
        as_vllm(planted, "rm -rf /opt/vllm/s")
        put_back(planted)
    assert_told_nothing(shown)
    document = json.loads(shown.stdout)
    assert document["exit_code"] == shown.code
    if words:
        assert shown.code == 3
        assert words in " ".join(findings(document, "blocked").values()), findings(document, "blocked")
    assert outside(planted) == before


ESCAPES = r"\033]0;owned\007\033[2J\033[8m\033]52;c;AAAA\007\302\2331m"


def test_words_of_vllm_cannot_drive_the_terminal(planted: Operator) -> None:
    """Its last words, and a comment beside the line that is edited: on the screen, in the log, in the document."""
    server = planted.server
    script = GOOD.replace("exec vllm", f"# {ESCAPES.encode().decode('unicode_escape')}\nexec vllm")
    server.put(SCRIPT, script.encode("latin-1"), 0o755, "vllm:vllm")
    shown = planted.say("plan --answers answers.yaml")
    assert f"write {SCRIPT}" in shown.stdout and "]0;owned" not in shown.stdout
    server.put(SCRIPT, f"#!/bin/sh\nprintf '{ESCAPES}the last words\\n' >&2\nexit 3\n".encode(), 0o755, "vllm:vllm")
    server.run(["systemctl", "restart", "vllm"], check=False)
    try:
        failed = planted.say("plan --answers answers.yaml")
        document = planted.say("plan --answers answers.yaml --json")
    finally:
        put_back(planted)
        server.run(["systemctl", "reset-failed", "vllm"])
        server.run(["systemctl", "restart", "vllm"])
        server.wait_until_up()
    assert "the last words" in failed.stdout and failed.code == 3
    for text in (shown.stdout, failed.stdout, failed.stderr, document.stdout):
        assert not any((ord(one) < 32 and one not in "\n\t") or 0x7F <= ord(one) <= 0x9F for one in text)


# ── the caller ──

EVIL = "/home/operator/evil"
MARK = "/tmp/evil-was-here"
PROXY = "proxy-password-9Z8y7X"
MODULE = f"import os\nos.system('touch {MARK}-$PPID')\nopen('{MARK}', 'a').close()\n"
BROUGHT = {
    "PYTHONPATH": EVIL,
    "PYTHONSTARTUP": f"{EVIL}/json.py",
    "PYTHONHOME": EVIL,
    "LD_LIBRARY_PATH": EVIL,
    "PATH": f"{EVIL}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": EVIL,
    "XDG_CONFIG_HOME": EVIL,
    "XDG_DATA_DIRS": EVIL,
    "TMPDIR": f"{EVIL}/no-such-directory",
    "BASH_ENV": f"{EVIL}/ufw",
    "ENV": f"{EVIL}/ufw",
    "IFS": "/",
    "SSL_CERT_FILE": f"{EVIL}/json.py",
    "SSL_CERT_DIR": EVIL,
    "http_proxy": f"http://user:{PROXY}@192.0.2.1:3128",
    "https_proxy": f"http://user:{PROXY}@192.0.2.1:3128",
    "HTTPS_PROXY": f"http://user:{PROXY}@192.0.2.1:3128",
    "APT_CONFIG": f"{EVIL}/apt.conf",
    "DPKG_ROOT": EVIL,
    "TEXTUAL_DRIVER": "json:Driver",
    "LC_ALL": "tr_TR.UTF-8",
}


def evil(operator: Operator) -> None:
    """A directory full of what must not be run: modules, programs and settings of well-known names."""
    put = operator.server.put
    for name in (
        "json.py",
        "os.py",
        "sitecustomize.py",
        "wizard/__init__.py",
        "wizard/cli.py",
        "encodings/__init__.py",
    ):
        put(f"{EVIL}/{name}", MODULE.encode(), 0o644, "operator:operator")
    for name in ("ufw", "systemctl", "systemd-run", "apt-get", "caddy", "iptables-save", "bash", "sh"):
        put(f"{EVIL}/{name}", f"#!/bin/sh\n: >{MARK}\n".encode(), 0o755, "operator:operator")
    put(f"{EVIL}/apt.conf", f'APT::Update::Pre-Invoke {{": >{MARK}";}};\n'.encode())


def test_nothing_that_a_caller_brings_along_reaches_what_runs_as_root(planted: Operator) -> None:
    """From a directory of evil modules, with an environment of evil words: the server is set up as it always is."""
    server = planted.server
    evil(planted)
    settings = " ".join(f"'{name}={value}'" for name, value in BROUGHT.items())
    typed = f"cd {EVIL} && sudo env {settings} /usr/local/bin/vllm-https-setup apply --answers ../answers.yaml --json"
    seen: set[str] = set()
    with server.ssh_popen(typed) as apply:
        until = time.monotonic() + 170
        while apply.poll() is None and time.monotonic() < until:
            if pid := planted.run_process():
                try:
                    with open(f"/proc/{pid}/environ", "rb") as environ:
                        seen.add(environ.read().decode())
                except OSError:
                    pass
            time.sleep(0.02)
        out, err = apply.communicate(timeout=10)
    document = json.loads(out)
    assert (document["exit_code"], troubles(document)) == (0, []), err
    assert server.run(["sh", "-c", f"ls {MARK}* 2>/dev/null"], check=False).stdout == ""
    assert seen and not any("evil" in text or PROXY in text or "tr_TR" in text for text in seen)
    assert server.run(["grep", "-rlaF", PROXY, STATE, LOG, "/etc", "/run/vllm-https-setup"], check=False).stdout == ""


CALLS: Mapping[str, str] = {
    "umask 077": "umask 077; sudo sh -c 'umask 077; exec vllm-https-setup {words}'",
    "umask 000": "sudo sh -c 'umask 000; exec vllm-https-setup {words}'",
    "a directory that is gone": "mkdir d; cd d; rmdir ../d; sudo vllm-https-setup {absolute}",
    "nothing in the environment": "sudo env -i /usr/local/bin/vllm-https-setup repair",
    "no PATH, no HOME": "sudo env -u HOME PATH= /usr/local/bin/vllm-https-setup {words}",
    "Turkish": "sudo env LC_ALL=tr_TR.ISO-8859-9 LANG=tr_TR vllm-https-setup {words}",
    "POSIX": "sudo env LC_ALL=POSIX vllm-https-setup {words}",
    "a locale that there is not": "sudo env LANG=xx_YY.UTF-8 LC_ALL=xx_YY vllm-https-setup {words}",
}


@pytest.mark.parametrize("how", CALLS)
def test_strange_surroundings_of_a_call_change_nothing_in_what_it_does(settled: Operator, how: str) -> None:
    """With a rule that has gone, so that there is something to repair; on the server that the caller's test set up."""
    settled.server.run(["ufw", "delete", "allow", "443/tcp"])
    words = "apply --answers answers.yaml"
    absolute = "apply --answers /home/operator/answers.yaml"
    result = settled.server.ssh(CALLS[how].format(words=words, absolute=absolute), check=False)
    assert result.code == 0, result
    assert "Traceback" not in result.stdout + result.stderr
    run = settled.runs()[-1]
    modes = settled.server.run(
        ["stat", "-c", "%a", f"{RUNS}/{run}", f"{RUNS}/{run}/report.json", f"{LOG}/{run}.log", STATE, LOG]
    )
    assert modes.stdout.split() == ["700", "600", "640", "755", "750"]
    assert "443/tcp" in settled.server.run(["ufw", "status"]).stdout


# ── its own directories ──

FOREIGN: Mapping[str, tuple[str, str, str]] = {
    "state of another user": (f"chown vllm {STATE}", f"chown root {STATE}", "vllm's and not root's"),
    "runs that all may write to": (f"chmod 777 {RUNS}", f"chmod 700 {RUNS}", "writable by others (mode 0777)"),
    "log that is a link": (
        f"mv {LOG} {LOG}.away; ln -s /etc/cron.d {LOG}",
        f"rm {LOG}; mv {LOG}.away {LOG}",
        "a link of root",
    ),
    "lock directory of another user": (
        "chown vllm /run/vllm-https-setup",
        "chown root /run/vllm-https-setup",
        "vllm's and not root's",
    ),
    "answers' directory that is a link": (
        "mv /etc/vllm-https-setup /etc/away; ln -s /opt/vllm /etc/vllm-https-setup",
        "rm /etc/vllm-https-setup; mv /etc/away /etc/vllm-https-setup",
        "a link of root",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_own_directory_that_is_anothers_is_refused_and_not_followed(settled: Operator, what: str) -> None:
    make, take_back, words = FOREIGN[what]
    settled.server.run(["sh", "-ec", make])
    try:
        before = settled.server.snapshot()
        for command in ("apply --answers answers.yaml", "rollback --yes --keep-bind", "runs"):
            result = settled.say(command)
            assert result.code == 1, command
            assert words in result.stderr and "nothing was read or changed" in result.stderr, result
        assert left(settled, before) == []
    finally:
        settled.server.run(["sh", "-ec", take_back])
    assert settled.say("runs").code == 0


def test_lock_held_by_another_user_is_named_as_no_run(settled: Operator) -> None:
    hold = "exec 9</run/vllm-https-setup/lock; flock -s 9; exec sleep 600"
    settled.server.run(["systemd-run", "-q", "--unit=hold", "-p", "User=vllm", "sh", "-c", hold])
    try:
        until = Deadline("the lock to be held", 20)
        while settled.server.run(["flock", "-n", "-x", "/run/vllm-https-setup/lock", "true"], check=False).code != 1:
            until.tick(0.1)
        result = settled.say("repair")
    finally:
        settled.server.run(["systemctl", "stop", "hold"])
    assert result.code == 4
    assert "no run is under way, but sleep of vllm (process" in result.stderr
    assert "sudo kill" in result.stderr
    assert settled.say("repair").code == 0


# ── a disk that takes no more ──


def drift(operator: Operator) -> None:
    """A file, a rule and a key that have to be put right."""
    script = "rm -f /etc/apt/sources.list.d/caddy-stable.list; echo '# by hand' >>/etc/caddy/Caddyfile"
    operator.server.run(["sh", "-ec", f"{script}; ufw delete allow 443/tcp"])


# Where, with how much room left (KiB), and what is said. Each is a small disk with what was there before.
DISKS: Mapping[str, tuple[str, int, str]] = {
    "of Caddy's files": ("/etc/caddy", 0, "/etc/caddy/Caddyfile could not be written: No space left on device"),
    "of apt's lists of sources": ("/etc/apt/sources.list.d", 0, "could not be written: No space left on device"),
    "of the saved answers": ("/etc/vllm-https-setup", 0, "could not be"),
    "of the runs, from the beginning": (STATE, 0, "No space left on device"),
    "of the runs, in the middle": (STATE, 40, "disk is full"),
    "of the log": (LOG, 0, ""),
    "of vLLM": ("/opt/vllm", 0, "/opt/vllm/start-vllm.sh could not be written: No space left on device"),
    "of ufw's rules": ("/etc/ufw", 0, "/etc/ufw/user.rules could not be written to the end, and no boot could load"),
    "of the units": (UNITS, 4, f"{UNITS}/vllm-https-setup-revert.timer could not be written: No space left on device"),
    "of apt's keys": ("/usr/share/keyrings", 0, "could not be written: No space left on device"),
    "of apt's packages": ("/var/cache/apt/archives", 0, "You don't have enough free space in /var/cache/apt/archives"),
    "of apt's indexes": ("/var/lib/apt/lists", 0, "No space left on device"),
    "of dpkg, from the beginning": ("/var/lib/dpkg", 0, "No space left on device"),
    "of dpkg, in the middle": ("/var/lib/dpkg", 40, "No space left on device"),
}
WITHOUT_CADDY = (
    "DEBIAN_FRONTEND=noninteractive apt-get remove -q -y caddy; apt-get clean; rm -f /var/lib/apt/lists/dl.*"
)
# ufw writes over its old file, and so has the room of that: its rules are made to need more than they have.
FULL_PAGE = """\
port=9000
while size=$(($(stat -c %s /etc/ufw/user.rules) % 4096)); [ $size -lt 3960 ]; do
    port=$((port + 1))
    ufw allow $port/tcp comment "$(head -c $((size < 3400 ? 100 : 10)) /dev/zero | tr '\\0' x)"
done
"""
NO_FULL_PAGE = (
    "for rule in $(ufw show added | sed -n 's/^ufw allow \\(9[0-9]*\\).*/\\1/p'); do ufw delete allow $rule/tcp; done"
)
# More that has to be put right, so that something is to be written there.
MORE_DRIFT: Mapping[str, str] = {
    "/opt/vllm": "sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' /opt/vllm/start-vllm.sh",
    "/etc/ufw": FULL_PAGE,
    "/usr/share/keyrings": "rm /usr/share/keyrings/caddy-stable-archive-keyring.gpg",
    "/var/cache/apt/archives": WITHOUT_CADDY,
    "/var/lib/apt/lists": WITHOUT_CADDY,
    "/var/lib/dpkg": WITHOUT_CADDY,
}
SMALL = """\
cp -a "$1" /run/small && mount -t tmpfs -o "size=$2k,mode=$(stat -c %a "$1"),uid=$(stat -c %u "$1")" small "$1"
cp -a /run/small/. "$1/"; rm -rf /run/small
dd if=/dev/zero of="$1/.filled" bs=1k 2>/dev/null || true
[ "$3" = 0 ] || truncate -s -"$3"k "$1/.filled"
"""
# The disk stays, with what it has; and goes when all is well, what it has being kept.
ROOM = 'mount -o remount,size=100% "$1"; rm -f "$1/.filled"'
NO_DISK = """\
cp -a "$1" /run/kept; umount "$1"
find "$1" -mindepth 1 -delete; cp -a /run/kept/. "$1/"; rm -rf /run/kept
"""


@pytest.mark.parametrize("which", DISKS)
def test_full_disk_is_a_sentence_and_the_next_apply_completes(settled: Operator, which: str) -> None:
    place, room, words = DISKS[which]
    server = settled.server
    drift(settled)
    server.run(["sh", "-euc", MORE_DRIFT.get(place, "true")])
    if which == "of the saved answers":
        settled.answer(test={"timeout": 60})
    used = int(server.run(["du", "-sk", "--apparent-size", place]).stdout.split()[0])
    server.run(["sh", "-euc", SMALL, "sh", place, str(used * 2 + 200), str(room)])
    try:
        result = settled.say("apply --answers answers.yaml")
    finally:
        server.run(["sh", "-euc", ROOM, "sh", place])
        settled.answer()
    said = result.stdout + result.stderr
    assert "Traceback" not in said and "should not have happened" not in said
    assert result.code == (1 if words else 0), said
    assert words in said
    if place != "/etc/caddy":
        assert b"reverse_proxy" in server.get("/etc/caddy/Caddyfile")
    document = settled.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert server.run(["find", place, "-name", ".*.new"]).stdout == "", "what was not written to its end is not left"
    for rules in ("/etc/ufw/user.rules", "/etc/ufw/user6.rules"):
        assert server.get(rules).rstrip().endswith(b"COMMIT"), "a boot loads nothing of a file that is cut off"
    assert server.run(["dpkg", "--audit"]).stdout == ""
    server.run(["sh", "-euc", NO_DISK, "sh", place])
    if place == "/etc/ufw":
        server.run(["sh", "-euc", NO_FULL_PAGE])


def test_etc_that_is_read_only_is_a_sentence_and_the_next_apply_completes(settled: Operator) -> None:
    server = settled.server
    drift(settled)
    server.run(["sh", "-ec", "mount --bind /etc /etc; mount -o remount,bind,ro /etc"])
    try:
        result = settled.say("apply --answers answers.yaml")
    finally:
        server.run(["umount", "/etc"])
    assert result.code == 1
    assert "Read-only file system" in result.stdout and "Traceback" not in result.stdout + result.stderr
    document = settled.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


# ── no process to be had ──


def test_run_that_may_start_no_process_is_a_sentence_and_the_next_apply_completes(settled: Operator) -> None:
    """As where its unit, or the server, has as many as there may be: fork and clone fail with EAGAIN."""
    server = settled.server
    drop_in = "/run/systemd/system/vllm-https-setup-run.service.d/none.conf"
    drift(settled)
    none = "[Service]\nSystemCallFilter=~clone clone3 fork vfork\nSystemCallErrorNumber=EAGAIN\n"
    server.put(drop_in, none.encode())
    server.run(["systemctl", "daemon-reload"])
    try:
        result = settled.say("apply --answers answers.yaml")
    finally:
        server.run(["rm", "-r", drop_in.rpartition("/")[0]])
        server.run(["systemctl", "daemon-reload"])
    assert result.code == 3, result
    assert "Nothing was changed." in result.stdout
    assert "could not be started" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    document = settled.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


# ── the way to the repository ──


def without_caddy(operator: Operator) -> None:
    operator.server.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "remove", "-q", "-y", "caddy"])
    operator.server.run(["apt-get", "clean"])


def test_package_that_comes_by_halves_is_refused_and_the_next_apply_completes(settled: Operator) -> None:
    without_caddy(settled)
    (package,) = (settled.lab.gate.root / STABLE).rglob("caddy_*.deb")
    whole = package.read_bytes()
    package.write_bytes(whole[: len(whole) // 2])
    try:
        result = settled.say("apply --answers answers.yaml")
    finally:
        package.write_bytes(whole)
    assert result.code == 1 and "apt-get install" in result.stdout
    assert settled.file("/usr/bin/caddy") is None
    document = settled.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


def test_name_server_that_does_not_answer_is_a_sentence_and_the_next_apply_completes(settled: Operator) -> None:
    server = settled.server
    without_caddy(settled)
    resolver = server.get("/etc/resolv.conf")
    server.put("/etc/resolv.conf", b"nameserver 192.0.2.53\noptions timeout:1 attempts:1\n")
    try:
        result = settled.say("apply --answers answers.yaml")
    finally:
        server.put("/etc/resolv.conf", resolver)
    assert result.code in (1, 3)
    assert "resolv" in result.stdout + result.stderr and "Traceback" not in result.stdout + result.stderr
    document = settled.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


# ── a race with a root that reads and writes ──

RACE = """\
i=0; while :; do i=$((i+1))
  for aim in /etc/shadow /etc/sudoers /root/token; do
    ln -sfn $aim l; mv -T start-vllm.sh kept; mv -T l start-vllm.sh; mv -T kept start-vllm.sh
  done
  echo $i >counted; mv counted count
done
"""


RACED = (
    "plan --answers answers.yaml",
    "apply --answers answers.yaml",
    "rollback --yes --expose",
    "log",
)


def test_replacements_in_a_race_reach_nothing_outside(settled: Operator) -> None:
    """While root looks, edits the script, and takes the edit back in both ways, its place is swapped for links to
    root's files."""
    server = settled.server
    before = files_of_root(settled)
    as_vllm(settled, "mkdir -p /opt/vllm/race")
    server.run(
        [
            "sh",
            "-ec",
            "mv /opt/vllm/start-vllm.sh /opt/vllm/race/; ln -s race/start-vllm.sh /opt/vllm/x; rm /opt/vllm/x",
        ]
    )
    path = "/opt/vllm/race/start-vllm.sh"
    server.put("/etc/systemd/system/vllm.service.d/race.conf", f"[Service]\nExecStart=\nExecStart={path}\n".encode())
    server.run(["systemctl", "daemon-reload"])
    codes = []
    argv = [
        "systemd-run",
        "-q",
        "--unit=race",
        "-p",
        "User=vllm",
        "-p",
        "WorkingDirectory=/opt/vllm/race",
        "sh",
        "-c",
        RACE,
    ]
    server.run(argv)
    try:
        for _ in range(3):
            # As root sed itself would copy what the link leads to.
            as_vllm(settled, f"sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' {path} || true")
            for words in RACED:
                result = settled.say(words)
                codes.append(result.code)
                assert_told_nothing(result)
        result = settled.say("uninstall --yes --expose")
        codes.append(result.code)
        assert_told_nothing(result)
    finally:
        server.run(["systemctl", "stop", "race"])
    swaps = int(server.get("/opt/vllm/race/count"))
    print(f"{swaps * 3} swaps; exit codes {codes}")
    # 2: a rollback where the race has let nothing be begun.
    assert swaps > 20 and set(codes) <= {0, 1, 2, 3, 5}
    # The package that goes takes its user along.
    assert files_of_root(settled) == before
    grep = ["grep", "-rlaF", "-e", "canaryOfShadow", "-e", TOKEN, STATE, LOG, "/etc/vllm-https-setup", "/opt/vllm"]
    assert server.run(grep, check=False).stdout == ""
    server.run(["rm", "-rf", "/opt/vllm/race", "/etc/systemd/system/vllm.service.d"])
    put_back(settled)
    server.run(["systemctl", "daemon-reload"])
    server.run(["systemctl", "restart", "vllm"])  # whose last start may have met no script
    document = settled.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert f"write {SCRIPT}" in in_words(changes_of(document))


def test_file_names_that_are_no_text_stop_nothing(settled: Operator) -> None:
    """Beside Caddy's additions, apt's sources and the units, where their names are looked at."""
    make = 'printf \'# x\' >"$1"; printf \'[Service]\\nExecStart=/bin/true vllm\\n\' >"$2"; : >"$3"'
    names = [
        b"/etc/apt/sources.list.d/\xff\xfe.list",
        b"/etc/systemd/system/llm-\xff.service",
        b"/etc/caddy/vllm-https.d/\xff.caddy",
    ]
    paths = [name.decode("utf-8", "surrogateescape") for name in names]
    settled.server.run(["mkdir", "-p", "/etc/caddy/vllm-https.d"])
    settled.server.run(["sh", "-euc", make, "sh", *paths])
    settled.answer(vllm={"unit": "no-such.service"})
    try:
        shown = settled.say("plan --answers answers.yaml")
        document = settled.ask("plan --answers answers.yaml")
        settled.answer()
        settled.server.run(["ufw", "delete", "allow", "443/tcp"])
        applied = settled.apply()
    finally:
        settled.answer()
        settled.server.run(["rm", "-f", *paths])
    assert shown.code == document["exit_code"] == 3
    assert "Traceback" not in shown.stdout + shown.stderr
    assert applied["exit_code"] in (0, 5), troubles(applied)
