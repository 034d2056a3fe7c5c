"""What fail2ban says of a jail."""

import ipaddress
import re

_LOGS = re.compile(r"File list:[ \t]*(.*)")
_LIST = re.compile(r"Banned IP list:[ \t]*(.*)")


def parse_banned(text: str) -> tuple[str, ...]:
    """The addresses that `fail2ban-client status JAIL` names as banned now; () where it does not say."""
    found = _LIST.search(text)
    return tuple(one for one in found[1].split() if _is_address(one)) if found else ()


def parse_logs(text: str) -> tuple[str, ...]:
    """The files that the jail reads."""
    found = _LOGS.search(text)
    return tuple(found[1].split()) if found else ()


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True
