"""The real protobuf runtime reads what we write, and we read what it writes."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkit.profiling.decode import NotAProfileError, decode
from threadkit.profiling.encode import encode
from threadkit.profiling.merge import delta, merge
from threadkit.profiling.profile import MOST_STACKS, OTHERS, Frame, Labels, Profile, ValueType

from .protos import parse, rows

int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
frames = st.builds(Frame, texts, texts, st.integers(0, 2**40), st.integers(0, 2**31))
tags = st.dictionaries(texts, texts.filter(bool) | int64.filter(bool), max_size=3)
types = st.just((ValueType("samples", "count"), ValueType("cpu", "nanoseconds")))
small = st.integers(-(2**40), 2**40)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    profile = Profile(
        draw(types),
        comments=draw(st.lists(texts, max_size=3)),
        period_type=draw(st.none() | st.just(ValueType("cpu", "nanoseconds"))),
        period=draw(st.integers(0, 2**62)),
        time_ns=draw(st.integers(0, 2**62)),
        duration_ns=draw(st.integers(0, 2**62)),
        default_type=draw(st.sampled_from(["", "cpu"])),
    )
    for stack in draw(st.lists(st.lists(frames, max_size=4), max_size=6)):
        labels: Labels = tuple(sorted(draw(tags).items()))
        profile.add(tuple(stack), (draw(small), draw(small)), labels)
    return profile


@given(profiles())
def test_the_real_runtime_reads_what_we_write(profile: Profile) -> None:
    message = parse(encode(profile))
    assert rows(message) == {
        (tuple(map(tuple, stack)), labels): values
        for (stack, labels), values in profile.samples.items()
    }
    text = message.string_table
    assert [(text[t.type], text[t.unit]) for t in message.sample_type] == list(profile.types)
    assert [text[n] for n in message.comment] == profile.comments
    assert (message.period, message.time_nanos) == (profile.period, profile.time_ns)
    assert message.duration_nanos == profile.duration_ns
    assert text[0] == ""
    assert len(set(text)) == len(text)


@given(profiles(), profiles())
def test_a_place_has_one_address_and_no_other_place_has_it(one: Profile, two: Profile) -> None:
    """By it alone a store knows a stack again in the next profile, of another worker perhaps."""
    places: dict[int, set[object]] = {}
    addresses: dict[object, set[int]] = {}
    for message in (parse(encode(one)), parse(encode(two))):
        functions = {f.id: f for f in message.function}
        for location in message.location:
            (line,) = location.line
            f, text = functions[line.function_id], message.string_table
            place = (text[f.name], text[f.filename], f.start_line, line.line)
            places.setdefault(location.address, set()).add(place)
            addresses.setdefault(place, set()).add(location.address)
    assert 0 not in places
    assert all(len(found) == 1 for found in places.values())
    assert all(len(found) == 1 for found in addresses.values())


@given(profiles())
def test_what_we_write_we_read(profile: Profile) -> None:
    assert decode(encode(profile)) == profile


@given(profiles())
def test_we_read_what_the_real_runtime_writes(profile: Profile) -> None:
    """Which packs numbers, orders fields its own way and leaves out zeros."""
    assert decode(parse(encode(profile)).SerializeToString()) == profile


@given(st.binary(max_size=200))
def test_anything_else_is_refused_in_one_way(data: bytes) -> None:
    for bytes_ in (data, b"\x1f\x8b" + data, gzip.compress(data)):
        try:
            decode(bytes_)
        except NotAProfileError as error:
            assert "not a profile" in str(error)  # noqa: PT017 - others may well be profiles


@given(profiles())
def test_no_part_of_a_profile_passes_for_it(profile: Profile) -> None:
    whole = encode(profile)
    with pytest.raises(NotAProfileError):
        decode(whole[: len(whole) // 2])


def sums(profile: Profile) -> dict[object, list[int]]:
    return {key: values for key, values in profile.samples.items() if any(values)}


@given(profiles(), profiles())
def test_merged_profiles_have_the_sum_of_each_stack(one: Profile, two: Profile) -> None:
    both = merge([one, two])
    for column in (0, 1):
        assert both.total(column) == one.total(column) + two.total(column)
    assert both.samples.keys() == one.samples.keys() | two.samples.keys()
    assert sums(both) == sums(merge([two, one]))
    assert merge([one]).samples == one.samples


@given(profiles(), profiles())
def test_a_delta_added_to_what_was_is_what_is(before: Profile, after: Profile) -> None:
    assert sums(merge([before, delta(before, after)])) == sums(after)


def test_profiles_of_different_things_are_not_added_up() -> None:
    with pytest.raises(ValueError, match="cannot merge"):
        merge([Profile((ValueType("a", "count"),)), Profile((ValueType("b", "count"),))])


def test_stacks_beyond_the_limit_still_count() -> None:
    profile = Profile((ValueType("samples", "count"),))
    for number in range(MOST_STACKS + 100):
        profile.add((Frame("f", "m.py", number),), (1,))
    assert profile.total() == MOST_STACKS + 100
    assert len(profile.samples) == MOST_STACKS + 1
    assert profile.samples[OTHERS, ()] == [100]


def test_a_tag_wins_over_a_label_of_that_name() -> None:
    profile = Profile((ValueType("samples", "count"),))
    profile.add((), (1,), (("pid", "1"), ("thread", "a")))
    profile.add((), (2,), (("pid", "2"), ("thread", "a")))
    assert profile.tag(pid="3").samples == {((), (("pid", "3"), ("thread", "a"))): [3]}
