"""Errors carry their parts, also between processes."""

import pickle

import pytest

from metarec_core import errors
from metarec_core.errors import DatasetError, MetarecError


def test_the_message_holds_every_part() -> None:
    error = DatasetError("file x", found="nothing", wanted="a file", next_step="look elsewhere")
    assert str(error) == "file x: found nothing; wanted a file. Next step: look elsewhere"


def test_errors_survive_a_trip_to_another_process() -> None:
    error = DatasetError("file x", found="nothing", wanted="a file", next_step="look elsewhere")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DatasetError
    assert str(copy) == str(error)


def test_each_kind_has_an_exit_code_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, MetarecError)
    ]
    codes = [kind.exit_code for kind in kinds]
    assert len(kinds) > 5
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


def test_parts_are_named() -> None:
    with pytest.raises(TypeError):
        DatasetError("a", "b", "c", "d")  # type: ignore[misc]
