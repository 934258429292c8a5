"""Mixtures of sources as strings."""

import pytest

from wne_jax.data.mixtures import parse_mixture


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ("embedded", [("embedded", None)]),
        ("tfds:div2k,folder:BSD400", [("tfds:div2k", None), ("folder:BSD400", None)]),
        (" tfds:a:1.0.0@3 , folder:b@.5", [("tfds:a:1.0.0", 3.0), ("folder:b", 0.5)]),
        ("folder:b@1e-3", [("folder:b", 1e-3)]),
        ("folder:me@home/b", [("folder:me@home/b", None)]),
        ("folder:me@home@2", [("folder:me@home", 2.0)]),
        ("pairs:n:c@2", [("pairs:n:c", 2.0)]),
    ],
)
def test_parts(data, parts):
    assert parse_mixture(data) == parts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "a part is empty"),
        ("embedded,", "a part is empty"),
        ("a@0", "the weight of a must be positive and finite"),
        ("a@-1", "positive and finite"),
        ("a@nan", "positive and finite"),
        ("a@inf,b@1", "the weight of a"),
        ("a@2,b,c", "b, c has no weight; write @NUMBER after all parts or none"),
        ("a,b,a", "a occurs twice"),
        ("a@1,a@2", "a occurs twice"),
    ],
)
def test_invalid_mixtures_are_rejected(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_mixture(data)
    assert repr(data) in str(caught.value)
