"""Adds profiles up, and takes one from another (Go's delta profiles)."""

from __future__ import annotations

from collections.abc import Sequence

from threadkit.profiling.profile import Profile


def merge(profiles: Sequence[Profile]) -> Profile:
    """The sum of profiles that were taken side by side; all must measure the same.

    They ran at the same time, so the duration is the longest and not the sum.
    """
    if not profiles:
        msg = "merge() needs at least one profile"
        raise ValueError(msg)
    first = profiles[0]
    result = Profile(
        first.types,
        period_type=first.period_type,
        period=max(p.period for p in profiles),
        time_ns=min(p.time_ns for p in profiles),
        duration_ns=max(p.duration_ns for p in profiles),
        default_type=first.default_type,
    )
    for profile in profiles:
        if profile.types != first.types:
            msg = f"cannot merge a profile of {profile.types} with one of {first.types}"
            raise ValueError(msg)
        for (stack, tags), values in profile.samples.items():
            result.add(stack, values, tags)
        result.comments += [c for c in profile.comments if c not in result.comments]
    return result


def delta(before: Profile, after: Profile) -> Profile:
    """What came in between; a stack with fewer than before has a negative value."""
    result = Profile(
        after.types,
        comments=list(after.comments),
        period_type=after.period_type,
        period=after.period,
        time_ns=before.time_ns,
        duration_ns=max(0, after.time_ns - before.time_ns),
        default_type=after.default_type,
    )
    for sign, profile in ((1, after), (-1, before)):
        for (stack, tags), values in profile.samples.items():
            result.add(stack, [sign * value for value in values], tags)
    result.samples = {key: values for key, values in result.samples.items() if any(values)}
    return result
