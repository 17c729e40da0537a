"""A database's address: read from the environment, and kept out of every text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from metarec_core.errors import ConfigError

_HIDDEN = "***"
_SHORTEST = 4
"""Characters of the shortest secret that is hidden inside of words too, and of the shortest part
of a query that is worth hiding whatever it is called."""

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|cred", re.IGNORECASE)
"""Options whose values are hidden however short they are."""

_PAIR = re.compile(r"([^;=&\s]+)\s*=\s*(\{(?:[^}]|\}\})*\}|'[^']*'|[^;&\s]*)")
"""A setting of a connection string, such as ``PWD={a;b}``."""

_SPACE = r"(?:\s|\+|(?i:%[0-9a-f]{2}))+"

_CREDENTIALS = re.compile(r"(?![A-Za-z]:[/\\])[^/]*:.*@", re.DOTALL)
"""The start of a path that is no path: ``user:password@``, but not the ``C:/`` of Windows."""


def url_from(environment: Mapping[str, str], variable: str) -> sa.URL:
    """The database URL that an environment variable holds.

    A URL that can be read in two ways, for an ``@`` or ``?`` that is not percent-encoded, is none:
    the rest of a password would be taken for a host, which drivers name in their errors.

    Raises:
        ConfigError: If it is empty or no URL; the text does not repeat what it holds.
    """
    text = environment.get(variable, "").strip()
    try:
        url = sa.make_url(text) if text else None
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None or _is_ambiguous(text, url):
        raise ConfigError(
            f"environment variable {variable}",
            found="no database URL" if text else "nothing",
            wanted="a URL such as postgresql+psycopg://user:password@host/database, with "
            "characters such as @ : / ? of a password percent-encoded (%40 for @)",
            next_step=f"set {variable} where the night runs (a worker has an environment of its "
            "own), or leave out recommend.sinks.database",
        )
    return url


def redacted(text: str, url: sa.URL) -> str:
    """``text`` on one line, without what in ``url`` may be a secret, plain or percent-encoded.

    That is the password and everything after the question mark, where some drivers take
    passwords and whole connection strings. Of secrets below four characters those inside of words
    are left: hidden, they would tell themselves by the letters that a known word lacks.
    """
    # The longest first: a part must not break up the whole that holds it.
    for secret in sorted(set(_secrets(url)), key=lambda one: (-len(one), one)):
        text = re.sub(_pattern(secret), _HIDDEN, text)
    return " ".join(text.split())


def _is_ambiguous(text: str, url: sa.URL) -> bool:
    """Whether a part of a secret may have been taken for something else.

    SQLAlchemy ends a password at the first ``@``, and takes what precedes an ``@`` for
    credentials even if it is a host and options.
    """
    if url.password is not None:
        name, _, rest = text.partition("://")[2].partition(":")
        password, _, rest = rest.partition("@")
        return "?" in name + password or "@" in rest
    if url.username is None and url.host is None:
        # A file's path may well have an @.
        return _CREDENTIALS.match(url.database or "") is not None
    return "?" in (url.username or "") or "@" in f"{url.host}{url.database}"


def _secrets(url: sa.URL) -> Iterator[str]:
    """What must not be told, with white space as single blanks; parts of a whole come too."""
    found = [url.password or ""]
    for name, values in url.normalized_query.items():
        for value in values:
            parts = [value, *re.split(r"[;=&\s]+", value)]
            found += [part for part in parts if len(part) >= _SHORTEST]
            for key, setting in [(name, value), *_PAIR.findall(value)]:
                if _SECRET_NAME.search(key):
                    found += [setting, setting.strip("{}'")]
    yield from filter(None, (" ".join(str(secret).split()) for secret in found))


def _pattern(secret: str) -> str:
    """What matches a secret in any form: each character plain, percent-encoded or escaped."""
    pattern = _SPACE.join("".join(map(_character, word)) for word in secret.split())
    if len(secret) >= _SHORTEST:
        return pattern
    # Behind a percent-encoded character no word goes on.
    start = r"(?:(?<!\w)|(?<=%[0-9A-Fa-f]{2}))" if re.match(r"\w", secret[0]) else ""
    end = r"(?!\w)" if re.match(r"\w", secret[-1]) else ""
    return f"{start}{pattern}{end}"


def _character(character: str) -> str:
    encoded = "".join(f"%{byte:02x}" for byte in character.encode(errors="replace"))
    escape = r"\\?" if character in "\\'\"" else ""
    return f"(?:{escape}{re.escape(character)}|(?i:{encoded}))"
