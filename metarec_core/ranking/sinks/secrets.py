"""A database's address: read from the environment, and kept out of every text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

import sqlalchemy as sa

from metarec_core.errors import ConfigError

_HIDDEN = "***"
_SHORTEST = 4
"""Characters of the shortest part of a query that is worth hiding."""


def url_from(environment: Mapping[str, str], variable: str) -> sa.URL:
    """The database URL that an environment variable holds.

    Raises:
        ConfigError: If it is empty or no URL; the text does not repeat what it holds.
    """
    text = environment.get(variable, "").strip()
    try:
        url = sa.make_url(text) if text else None
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None:
        raise ConfigError(
            f"environment variable {variable}",
            found="no database URL" if text else "nothing",
            wanted="a URL such as postgresql+psycopg://user:password@host/database",
            next_step=f"set {variable} where the night runs (a worker has an environment of its "
            "own), or leave out recommend.sinks.database",
        )
    return url


def redacted(text: str, url: sa.URL) -> str:
    """``text`` on one line, without what in ``url`` may be a secret, plain or percent-encoded.

    That is the password and everything after the question mark, where some drivers take
    passwords and whole connection strings.
    """
    secrets = {url.password or ""}
    for values in url.normalized_query.values():
        for value in values:
            parts = [value, *re.split(r"[;=&\s]+", value)]
            secrets |= {part for part in parts if len(part) >= _SHORTEST}
    written = {
        form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret))
    }
    line = " ".join(text.split())
    # The longest first: a part must not break up the whole that holds it.
    for secret in sorted(written - {""}, key=lambda form: (-len(form), form)):
        line = line.replace(secret, _HIDDEN)
    return line
