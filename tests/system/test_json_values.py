"""Typed values are read from untrusted JSON, or refused by the name of the field that is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.system.json_values import finite, is_natural, read_as, read_dataclass


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Shape:
    name: str
    points: tuple[Point, ...]
    kind: Literal["open", "closed"] = "open"
    ids: list[int] = field(default_factory=list)
    label: str | None = None
    size: tuple[int, str] = (1, "a")
    notes: dict[str, str] = field(default_factory=dict)
    is_new: bool = False


def test_a_json_object_becomes_a_dataclass_of_dataclasses() -> None:
    plain = {
        "name": "fox",
        "points": [{"x": 1, "y": 2.5}, {"x": -3, "z": "of a later version"}],
        "kind": "closed",
        "ids": [1, 2],
        "label": None,
        "size": [2, "b"],
        "notes": {"a": "b"},
        "is_new": True,
    }
    shape = Shape("fox", (Point(1.0, 2.5), Point(-3.0)), "closed", [1, 2], None, (2, "b"), {"a": "b"}, True)
    assert read_dataclass(Shape, plain) == shape
    assert read_dataclass(Shape, {"name": "owl", "points": []}) == Shape("owl", ())
    assert type(read_dataclass(Shape, plain).points[0].x) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 7}, "name: expected str"),
        ({"name": None}, "name: expected str"),
        ({"points": {}}, "points: expected tuple"),
        ({"points": [{"y": 1}]}, "x: missing"),
        ({"points": [{"x": True}]}, "x: expected float"),
        ({"points": [{"x": math.nan}]}, "x: expected float"),
        ({"points": [{"x": 10**400}]}, "x: expected float"),
        ({"points": [7]}, "points: expected an object"),
        ({"kind": "ajar"}, "kind: expected"),
        ({"kind": 1}, "kind: expected"),
        ({"ids": [1, True]}, "ids: expected int"),
        ({"ids": [1, 2.0]}, "ids: expected int"),
        ({"label": 1}, "label: expected"),
        ({"size": [1]}, "size: expected"),
        ({"size": [1, 2]}, "size: expected str"),
        ({"notes": {"a": 1}}, "a: expected str"),
        ({"is_new": 1}, "is_new: expected bool"),
    ],
)
def test_what_is_of_another_type_is_refused_by_its_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_dataclass(Shape, {"name": "fox", "points": [], **changes})
    assert str(caught.value).startswith(message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["name", "points", "kind", "ids", "label", "size", "notes"]), json_values))
def test_any_json_is_read_or_refused(plain: dict[str, Any]) -> None:
    try:
        shape = read_dataclass(Shape, json.loads(json.dumps(plain)))
    except ValueError:
        return
    assert isinstance(shape.name, str) and all(math.isfinite(point.x) for point in shape.points)


def test_a_single_value_is_read_by_its_hint() -> None:
    assert read_as({"a": [1]}, Any) == {"a": [1]}
    with pytest.raises(ValueError, match=r"^size: expected int"):
        read_as("1", int, "size")


def test_numbers_are_finite_and_no_booleans() -> None:
    assert (finite(1), finite(2.5), finite(-0.0)) == (1.0, 2.5, 0.0)
    assert [finite(value) for value in (True, None, "1", math.inf, math.nan, 10**400)] == [None] * 6
    assert [is_natural(value) for value in (0, 7, 10**30)] == [True] * 3
    assert [is_natural(value) for value in (-1, 1.0, True, None, "1")] == [False] * 5
    assert is_natural(9, below=10) and not is_natural(10, below=10)
