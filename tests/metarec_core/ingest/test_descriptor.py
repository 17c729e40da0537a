from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from metarec_core.errors import DatasetError
from metarec_core.ingest.descriptor import bundled_descriptors, load_descriptor
from metarec_core.schema import Feedback, Table

TREE: dict[str, Any] = {
    "name": "mine",
    "feedback": "explicit",
    "values": {"minimum": 1, "maximum": 5, "relevant_from": 4},
    "interactions": {
        "path": "r.csv",
        "columns": {"user_id": "u", "item_id": "i", "value": "r"},
    },
}


def write(directory: Path, tree: Any) -> Path:
    path = directory / "mine.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_bundled_descriptors_load_under_their_names() -> None:
    names = bundled_descriptors()
    assert set(names) >= {"ml-100k", "ml-latest-small"}
    for name in names:
        descriptor = load_descriptor(name)
        assert descriptor.name == name
        assert descriptor.licence
        assert descriptor.origin is None


def test_an_own_descriptor_knows_its_directory_and_scale(tmp_path: Path) -> None:
    descriptor = load_descriptor(write(tmp_path, TREE))
    assert descriptor.origin == tmp_path
    assert "origin" not in descriptor.model_dump_json()
    scale = descriptor.scale()
    assert (scale.feedback, scale.minimum, scale.maximum) == (Feedback.EXPLICIT, 1.0, 5.0)
    assert list(descriptor.sources()) == [Table.INTERACTIONS]


def test_implicit_feedback_needs_no_values(tmp_path: Path) -> None:
    tree = TREE | {
        "feedback": "implicit",
        "interactions": {"path": "e.csv", "columns": {"user_id": "u", "item_id": "i"}},
    }
    del tree["values"]
    scale = load_descriptor(write(tmp_path, tree)).scale()
    assert (scale.minimum, scale.maximum, scale.relevant_from) == (0.0, 1.0, 0.0)


def test_a_dump_loads_again(tmp_path: Path) -> None:
    descriptor = load_descriptor("ml-100k")
    path = tmp_path / "dataset.json"
    path.write_text(descriptor.model_dump_json(indent=2), encoding="utf-8")
    assert load_descriptor(path).model_dump() == descriptor.model_dump()


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ("a: [1, 2", ["ParserError", "line 1"]),
        ("- 1\n- 2\n", ["the whole"]),
        (TREE | {"feedbak": "explicit"}, ["feedbak", "did you mean 'feedback'"]),
        ({k: v for k, v in TREE.items() if k != "name"}, ["field name", "add 'name:'"]),
        (TREE | {"feedback": "loud"}, ["'loud'", "explicit"]),
        (TREE | {"values": {"minimum": 1}}, ["explicit feedback needs the three"]),
        (TREE | {"values": {"minimum": 6, "maximum": 5, "relevant_from": 4}}, ["rising order"]),
        (
            TREE | {"interactions": {"path": "r.csv", "columns": {"user_id": "u", "itm": "i"}}},
            ["unknown ['itm']", "no ['item_id', 'value']"],
        ),
        (
            TREE | {"interactions": TREE["interactions"] | {"header": False}},
            ["interactions", "'names' is empty"],
        ),
        (
            TREE | {"interactions": TREE["interactions"] | {"encodng": "utf-8"}},
            ["interactions.encodng", "did you mean 'encoding'"],
        ),
        (
            TREE
            | {
                "users": {
                    "path": "u.csv",
                    "columns": {"user_id": "u"},
                    "features": {"Title": {"column": "t", "kind": "text"}},
                }
            },
            ["['Title']", "reserved"],
        ),
        (
            TREE
            | {
                "users": {
                    "path": "u.csv",
                    "columns": {"user_id": "u"},
                    "features": {"year": {"column": "t", "kind": "numeric", "pattern": "x(y"}},
                }
            },
            ["users.features.year.pattern", "not a regular expression"],
        ),
        (
            TREE
            | {
                "users": {
                    "path": "u.csv",
                    "columns": {"user_id": "u"},
                    "features": {"year": {"column": "t", "kind": "numeric", "pattern": r"\d"}},
                }
            },
            ["0 groups", "exactly one"],
        ),
        (
            TREE
            | {
                "users": {
                    "path": "u.csv",
                    "columns": {"user_id": "u"},
                    "features": {"year": {"column": "t", "knd": "numeric"}},
                }
            },
            ["users.features.year.kind", "add 'kind:'"],
        ),
        (TREE | {"name": "../up"}, ["field name", "'../up'"]),
        (
            TREE
            | {
                "fetch": {
                    "wheel": "a==1",
                    "sha256": "0" * 64,
                    "root": "a",
                    "files": {"../b": "0" * 64},
                }
            },
            ["fetch.files"],
        ),
    ],
)
def test_a_wrong_descriptor_names_file_field_and_cure(
    tmp_path: Path, tree: Any, words: list[str]
) -> None:
    path = write(tmp_path, tree)
    with pytest.raises(DatasetError) as caught:
        load_descriptor(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_an_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="did you mean 'ml-100k'") as caught:
        load_descriptor("ml-100")
    assert "ml-latest-small" in caught.value.wanted
