"""``python -m flows.services up|down|status``: the services without the rest of the command."""

from __future__ import annotations

import sys

from flows.services.stack import ServiceState, down, status, up
from metarec_core.errors import MetarecError
from metarec_core.home import Home


def main(arguments: list[str]) -> int:
    """Do what the one argument says and return the exit code."""
    home = Home.from_environment()
    try:
        match arguments:
            case ["up"]:
                _show(up(home, say=print))
            case ["down"]:
                down(home, say=print)
            case ["status"]:
                _show(status(home))
            case _:
                print("usage: python -m flows.services up|down|status", file=sys.stderr)
                return 2
    except MetarecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _show(states: dict[str, ServiceState]) -> None:
    for one in states.values():
        print(f"{one.name:8} {one.state:9} {one.url or '':24} log {one.log}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
