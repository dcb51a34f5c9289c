"""Flame graph, collapsed stacks and speedscope's JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from hypothesis import given
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from threadkit.profiling import flame, formats
from threadkit.profiling.profile import Frame, Profile, ValueType

from .test_format import profiles

INTEGER = {"type": "integer", "minimum": 0}
# The sampled half of speedscope's file-format-schema.json.
SPEEDSCOPE = {
    "type": "object",
    "required": ["$schema", "profiles", "shared"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "name": {"type": "string"},
        "exporter": {"type": "string"},
        "activeProfileIndex": INTEGER,
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "file": {"type": "string"},
                            "line": {"type": "number"},
                            "col": {"type": "number"},
                        },
                    },
                }
            },
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    *("type", "name", "unit", "startValue", "endValue", "samples", "weights")
                ],
                "properties": {
                    "type": {"const": "sampled"},
                    "name": {"type": "string"},
                    "unit": {
                        "enum": [
                            *("bytes", "microseconds", "milliseconds", "nanoseconds"),
                            *("none", "seconds"),
                        ]
                    },
                    "startValue": {"type": "number"},
                    "endValue": {"type": "number"},
                    "samples": {"type": "array", "items": {"type": "array", "items": INTEGER}},
                    "weights": {"type": "array", "items": {"type": "number", "minimum": 0}},
                },
            },
        },
    },
}


def example() -> Profile:
    types = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))
    profile = Profile(types, default_type="cpu", comments=["<b>said</b>"])
    inner, outer = Frame("</script><b>", "a;b.py", 3), Frame("outer", "m.py", 9)
    profile.add((inner, outer), (2, 20), (("thread", "t;1"),))
    profile.add((outer,), (1, 10), (("thread", "t;1"),))
    return profile


@given(profiles())
def test_speedscopes_schema_holds(profile: Profile) -> None:
    document = json.loads(formats.speedscope(profile, "x"))
    Draft7Validator(SPEEDSCOPE).validate(document)
    frames = len(document["shared"]["frames"])
    for each in document["profiles"]:
        assert len(each["samples"]) == len(each["weights"]) == len(profile.samples)
        assert each["endValue"] == sum(each["weights"])
        assert all(number < frames for stack in each["samples"] for number in stack)


def test_speedscope_has_the_outermost_first() -> None:
    document = json.loads(formats.speedscope(example(), "profile"))
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert [names[n] for n in document["profiles"][1]["samples"][0]] == ["outer", "</script><b>"]
    assert document["profiles"][1]["weights"] == [20, 10]
    assert document["activeProfileIndex"] == 1


def test_collapsed_is_one_line_a_stack_and_no_name_can_break_it() -> None:
    assert formats.collapsed(example()) == (
        "t:1;outer (m.py:9) 10\nt:1;outer (m.py:9);</script><b> (a:b.py:3) 20\n"
    )


def test_the_flame_graph_allows_its_own_script_and_style_and_nothing_else() -> None:
    page = flame.page(example(), "profile <x>")
    assert page.policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.policy
    assert "http://" not in page.body
    assert "https://" not in page.body


def test_no_name_becomes_a_part_of_the_page() -> None:
    page = flame.page(example(), "profile <x>")
    assert "<b>" not in page.body
    assert "<x>" not in page.body
    (text,) = re.findall(r"id=data>(.*?)</script>", page.body, re.DOTALL)
    data = json.loads(text)
    assert data["frames"] == [["outer", "m.py", 9], ["</script><b>", "a;b.py", 3]]
    assert data["stacks"] == [[[0, 1], [2, 20]], [[0], [1, 10]]]
