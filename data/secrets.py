"""Recognize secrets in locations and overrides, so that records can be shared."""

import hashlib
import logging
import re
from re import Match
from typing import Any

_WORDS = r"(?:token|secret|passw(?:or)?d|pwd|api[-_]?key|access[-_]?key(?:[-_]?id)?|signature|sig|credentials?|auth)"
_KEY = rf"(?<![\w.-])(?:\w+[-_.])*{_WORDS}"
_VALUE = r"(?P<secret>[^\s&;,'\"|}\])]+)"
_PATTERNS = (
    re.compile(r"(?P<before>[a-z][\w+.-]*://(?:[^\s/@:]*:)?)(?P<secret>[^\s/@]+)(?=@)", re.IGNORECASE),
    re.compile(rf"(?P<before>\bauthorization\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?){_VALUE}", re.IGNORECASE),
    re.compile(rf"(?P<before>{_KEY}['\"']?\s*=\s*['\"]?){_VALUE}", re.IGNORECASE),
    re.compile(rf"(?P<before>(?<!/){_KEY}['\"']?\s*:\s*['\"]?){_VALUE}", re.IGNORECASE),
    re.compile(rf"(?P<before>(?<![\w-])--(?:\w+[-_])*{_WORDS}\s+['\"]?){_VALUE}", re.IGNORECASE),
    re.compile(rf"(?P<before>(?<![\w-])(?:-u|--user)\s*['\"]?[^\s:'\"]+:){_VALUE}"),
)
"""user:password@ and token@ of URLs; Authorization headers; token=, X-Amz-Signature= and the like; --token and -u."""


def redacted(text: str) -> str:
    """Return text with each secret replaced by a digest: the same secret gives the same digest.

    Recognized are `scheme://user:password@host`, `scheme://token@host`, values of keys that end in a word such as
    token, secret, password, api_key or signature (`token=…`, `X-Amz-Signature=…`), Authorization headers, and options
    of download commands (`--password …`, `-u user:…`).
    """
    for pattern in _PATTERNS:
        text = pattern.sub(_replaced, text)
    return text


def redacted_tree(content: Any) -> Any:
    """Return nested dicts and lists in which every text, keys included, is `redacted`."""
    if isinstance(content, dict):
        return {redacted(k) if isinstance(k, str) else k: redacted_tree(v) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [redacted_tree(item) for item in content]
    return redacted(content) if isinstance(content, str) else content


def _replaced(match: Match[str]) -> str:
    secret = match["secret"]
    if secret.startswith("secret-"):
        return match[0]
    return f"{match['before']}secret-{hashlib.sha256(secret.encode()).hexdigest()[:8]}"


class _WithoutSecrets(logging.Filter):
    """Redact the message of each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record."""
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


logging.getLogger("polarcast").addFilter(_WithoutSecrets())
