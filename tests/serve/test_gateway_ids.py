"""Ids: fresh ones never repeat, and those of former servers on one secret are still known."""

import hashlib
import hmac
import re
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.serve.gateway.ids import SECRET, Randoms, Signer, request_id


def test_numbers_are_fresh_across_what_is_fetched_at_once() -> None:
    randoms = Randoms()
    numbers = [randoms.next() for _ in range(2000)]
    assert len(set(numbers)) == 2000
    assert all(re.fullmatch("[0-9a-f]{24}", one) for one in numbers)


def test_an_id_is_signed_with_hmac_sha256() -> None:
    signer, number = Signer(b"secret"), "0123456789abcdef01234567"
    signature = hmac.new(b"secret", number.encode(), hashlib.sha256).hexdigest()[:32]
    assert signer.knows(f"chatcmpl-{number}-{signature}")
    assert not Signer(b"other").knows(f"chatcmpl-{number}-{signature}")
    assert signer.knows(signer.new())


def test_a_clients_own_request_id_is_kept_if_it_is_usable() -> None:
    assert request_id("abc-1") == "abc-1"
    assert request_id("a b") != request_id("a b")
    assert request_id("").startswith("req-")


def test_ids_signed_with_a_file_are_still_known_when_the_secret_moves_to_the_environment(tmp_path: Path) -> None:
    alone = Signer.of_server(tmp_path / "secret", {})
    shared = Signer.of_server(tmp_path / "secret", {SECRET: "s" * 32})
    elsewhere = Signer.of_server(tmp_path / "none", {SECRET: "s" * 32})
    assert not (tmp_path / "none").exists()
    assert shared.knows(alone.new())
    assert shared.knows(elsewhere.new())
    assert elsewhere.knows(shared.new())
    assert not elsewhere.knows(alone.new())
    assert not elsewhere.knows("chatcmpl-1")
    with pytest.raises(InputError, match="a secret of 8 characters can be guessed"):
        Signer.of_server(tmp_path / "secret", {SECRET: "too-weak"})
