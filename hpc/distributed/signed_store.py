"""Records of ranks in a key-value store that strangers may reach, too."""

import hashlib
import hmac
import json
from typing import Any

_SIGNATURE_LENGTH = 64
"""Hexadecimal digits of a SHA-256."""


class SignedStore:
    """One record for each rank, signed with a token that only the ranks of the job know."""

    def __init__(self, store: Any, token: str) -> None:
        """Use a store of torch.distributed."""
        self._store, self._token = store, token.encode()

    def write(self, rank: int, record: dict[str, Any]) -> None:
        """Replace the record of a rank. Raises RuntimeError if the store does not respond."""
        text = json.dumps({"rank": rank, "record": record})
        self._store.set(self._key(rank), self._signature(text) + text)

    def read(self, rank: int) -> dict[str, Any] | None:
        """Return the record of a rank; None if a stranger has replaced it.

        Raises:
            RuntimeError: the store does not respond, or the rank has written nothing yet.
        """
        content = self._store.get(self._key(rank))
        signature, text = content[:_SIGNATURE_LENGTH], content[_SIGNATURE_LENGTH:].decode(errors="replace")
        if not hmac.compare_digest(signature, self._signature(text).encode()):
            return None
        content = json.loads(text)
        # A stranger may copy the record of another rank.
        return dict(content["record"]) if content["rank"] == rank else None

    def _key(self, rank: int) -> str:
        return self._signature(f"rank {rank}")

    def _signature(self, text: str) -> str:
        return hmac.new(self._token, text.encode(), hashlib.sha256).hexdigest()
