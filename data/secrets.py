"""Recognize secrets in locations and overrides, so that records can be shared."""

import hashlib
import logging
import re
from re import Match
from typing import Any

_LONG = (
    r"(?:token|secret|passw(?:or)?d|passphrase|api[-_]?key|access[-_]?key(?:[-_]?id)?|signature|credentials?|bearer)"
)
_SHORT = r"(?:pwd|sig|auth)"
_KEY = rf"(?<![\w.])-{{0,2}}(?:[\w-]*{_LONG}|(?:[\w-]*[-_])?{_SHORT})"
"""Names of secrets: a long word after anything, such as PGPASSWORD; a short one alone or after a separator."""
_VALUE = r"""(?P<quote>['"]?)(?P<secret>(?<=')[^']+|(?<=")[^"]+|(?<!['"])[^\s&;'"|}\])]+)"""
_PATTERNS = (
    r"(?P<before>[a-z][\w+.-]*://[^\s/@:]*:)(?P<secret>[^\s@'\"]+)(?=@)",
    r"(?P<before>[a-z][\w+.-]*://)(?P<secret>[^\s/@:]+)(?=@)",
    r"(?P<before>\bauthorization['\"]?\s*[:=]\s*['\"]?)(?P<secret>digest[^'\n]+)",
    rf"(?P<before>\bauthorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?){_VALUE}",
    r"(?P<before>\bcookie\s*:\s*)(?P<secret>[^'\"\n]+)",
    rf"(?P<before>{_KEY}['\"]?\s*=\s*){_VALUE}",
    rf"(?P<before>(?<!/){_KEY}['\"]?\s*:\s*){_VALUE}",
    rf"(?P<before>(?<![\w-])--(?:\w+[-_])*(?:{_LONG}|{_SHORT})\s+){_VALUE}",
    rf"(?P<before>[?&](?:key|code)=){_VALUE}",
    rf"(?P<before>\bsshpass\s+-p\s*){_VALUE}",
    r"(?P<before>(?<![\w-])(?:-[uU]|--(?:proxy-)?user)[\s=]*'[^\s:,']+[:,])(?P<secret>[^']+)",
    r"(?P<before>(?<![\w-])(?:-[uU]|--(?:proxy-)?user)[\s=]*\"[^\s:,\"]+[:,])(?P<secret>[^\"]+)",
    r"(?P<before>(?<![\w-])(?:-[uU]|--(?:proxy-)?user)[\s=]*[^\s:,'\"]+[:,]['\"]?)(?P<secret>[^\s'\"]+)",
)
"""user:password@ and token@ of URLs; headers; token=, X-Amz-Signature= and the like; options of download commands."""
_COMPILED = tuple(re.compile(pattern, re.IGNORECASE) for pattern in _PATTERNS)
_DIGEST = re.compile(r"secret-[0-9a-f]{8}")
_MAX_DEPTH = 100


def redacted(text: str) -> str:
    """Return text with each secret replaced by a digest: the same secret gives the same digest.

    Recognized are `scheme://user:password@host`, `scheme://token@host`, values of keys that end in a word such as
    token, secret, password, api_key or signature (`token=…`, `X-Amz-Signature=…`), Authorization headers, and options
    of download commands (`--password …`, `-u user:…`).
    """
    for pattern in _COMPILED:
        text = pattern.sub(_replaced, text)
    return text


def redacted_tree(content: Any, depth: int = 0) -> Any:
    """Return nested dicts and lists in which every text, keys included, is `redacted`; deeper than 100 levels, None."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(content, dict):
        return {_text(key): redacted_tree(value, depth + 1) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redacted_tree(item, depth + 1) for item in content]
    return _text(content)


def _text(content: Any) -> Any:
    return redacted(content) if isinstance(content, str) else content


def _replaced(match: Match[str]) -> str:
    secret, quote = match["secret"], match.groupdict().get("quote") or ""
    if _DIGEST.fullmatch(secret):
        return match[0]
    return f"{match['before']}{quote}secret-{hashlib.sha256(secret.encode()).hexdigest()[:8]}"


class _WithoutSecrets(logging.Filter):
    """Redact the message of each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record."""
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


logging.getLogger("polarcast").addFilter(_WithoutSecrets())
