"""Keys as GnuPG 2.2.40 exported them: who may sign, until when."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.keyring import dearmor, read_keyring

RECORDED = Path(__file__).parents[1] / "recorded" / "keyring"
REPOSITORY = "6C5390B0D35981027095ABFFAF74B16B8B93BE45"
OLD = "61A48FDB444284F43D09C1F2310FA4AD110017AB"


def recorded(name: str) -> bytes:
    return (RECORDED / f"gpg-2.2-{name}").read_bytes()


def day(year: int, month: int = 6) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "time", "signs"),
    [
        ("signing-subkey.asc", day(2025), True),
        ("signing-subkey.asc", day(2026), False),
        ("signing-subkey.asc", day(2023), False),
        ("signing-subkey-extended.asc", day(2026), True),
        ("signing-subkey-extended.asc", day(2030), False),
        ("expiring-2025.gpg", day(2024), True),
        ("expiring-2025.gpg", day(2025), False),
        ("revoked.gpg", day(2025), False),
    ],
)
def test_key_signs_only_while_a_signing_key_is_live(name: str, time: datetime, signs: bool) -> None:
    (key,) = read_keyring(recorded(name))
    assert key.signs(time) is signs


def test_fingerprint_is_the_primary_keys_in_upper_case() -> None:
    (key,) = read_keyring(recorded("signing-subkey.asc"))
    assert key.fingerprint == REPOSITORY
    assert key.user_ids == ("Repository (test) <repo@example.com>",)


def test_expired_subkey_does_not_make_the_key_expired() -> None:
    (key,) = read_keyring(recorded("signing-subkey.asc"))
    assert (key.expires, key.expired(day(2030))) == (None, False)


def test_expiry_of_the_primary_key_is_found() -> None:
    (key,) = read_keyring(recorded("expiring-2025.gpg"))
    assert key.expires == datetime(2024, 12, 31, tzinfo=UTC)
    assert key.expired(day(2025))


def test_every_certificate_of_a_keyring_is_read() -> None:
    assert [key.fingerprint for key in read_keyring(recorded("two.gpg"))] == [REPOSITORY, OLD]


def test_dearmored_keyring_is_binary_and_has_the_same_keys() -> None:
    data = dearmor(recorded("signing-subkey-extended.asc"))
    assert data is not None
    assert not data.startswith(b"-----")
    assert read_keyring(data) == read_keyring(recorded("signing-subkey-extended.asc"))


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nzz\n"])
def test_what_is_not_a_key_is_an_empty_keyring(data: bytes) -> None:
    assert read_keyring(data) == ()
    assert dearmor(data) is None


@given(st.binary(), st.integers(0, 600), st.binary(max_size=3))
def test_any_bytes_are_read_without_an_error(data: bytes, place: int, damage: bytes) -> None:
    good = recorded("expiring-2025.gpg")
    for candidate in (data, good[:place] + damage + good[place + len(damage) :], good[:place]):
        for key in read_keyring(candidate):
            assert len(key.fingerprint) >= 40
        dearmor(candidate)
