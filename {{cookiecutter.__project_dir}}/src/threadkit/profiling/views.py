"""Which endpoint a stack works for, told from the handler's frame in it.

An external sampler sees stacks and not our variables, and by the time it reports, a thread
serves another request. The handler's own frame says it as of the sample. What runs before and
after the handler (routing, middleware) carries no endpoint for that reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from threadkit.profiling.profile import Stack
from threadkit.runtime import View


class Views:
    """Looks stacks up. Made once a profile; not changed afterwards, so thread-safe."""

    def __init__(self, views: Iterable[View] = ()) -> None:
        self._by_place: dict[tuple[str, str], list[View]] = {}
        for view in views:
            self._by_place.setdefault((view.file, view.name), []).append(view)

    def find(self, stack: Stack) -> View | None:
        """The outermost handler in the stack."""
        for frame in reversed(stack):
            place = (frame.file, frame.name.rpartition(".")[2])
            for view in self._by_place.get(place, ()):
                if view.first <= frame.line <= view.last:
                    return view
        return None
