"""Operators, accounts and users as `nsc` makes them: nkeys, JWTs, credentials files."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

__all__ = ["Operator", "key", "token"]

_LIMITS = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1) | {"wildcards": True}
_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
"""The system's account may not have it."""


def key(prefix: int) -> tuple[str, nkeys.KeyPair]:
    """Make a key; return its seed too."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    return bytes(seed).decode(), nkeys.from_seed(bytearray(seed))


def token(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, claims: dict[str, Any], **more: Any) -> str:
    """Make a JWT as NATS wants it."""

    def packed(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    head = packed(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    body = {
        "jti": os.urandom(8).hex(),
        "iat": int(time.time()) - 60,
        "iss": issuer.public_key.decode(),
        "name": "test",
        "sub": subject.public_key.decode(),
        "nats": {"version": 2, **claims},
        **more,
    }
    text = f"{head}.{packed(json.dumps(body).encode())}"
    return f"{text}.{packed(issuer.sign(text.encode()))}"


class Operator:
    """An operator with one account for all users, and one for the system."""

    def __init__(self) -> None:
        _, self._operator = key(nkeys.PREFIX_BYTE_OPERATOR)
        _, self._account = key(nkeys.PREFIX_BYTE_ACCOUNT)
        _, self._system = key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._token = token(self._operator, self._operator, {"type": "operator"})  # a reload may not change it

    def config(self, revoked: dict[str, int] | None = None) -> dict[str, Any]:
        """Return a broker's configuration.

        Args:
            revoked: public keys of users that are, with the time up to which their JWTs are.
        """
        limits = {self._account: _LIMITS | _JETSTREAM, self._system: _LIMITS}
        accounts = {
            pair.public_key.decode(): token(
                self._operator, pair, {"type": "account", "limits": granted, "revocations": revoked or {}}
            )
            for pair, granted in limits.items()
        }
        return {
            "operator": self._token,
            "resolver": "MEMORY",
            "resolver_preload": accounts,
            "system_account": self._system.public_key.decode(),
        }

    def write_credentials(self, path: Path, **claims: Any) -> str:
        """Write a new user's credentials file; return the user's public key."""
        seed, user = key(nkeys.PREFIX_BYTE_USER)
        jwt = token(self._account, user, {"type": "user", "subs": -1, "data": -1, "payload": -1}, **claims)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
        return user.public_key.decode()
