"""``pid=all``: every worker takes the same profile at the same time, and one answers the sum.

The own share is taken in the thread that answers, the others' are asked for meanwhile. A
worker that does not answer in time is named in a comment, and not waited for.
"""

from __future__ import annotations

import os
import threading

from threadkit.admin.neighbours import Answer, Neighbours
from threadkit.admin.pprof_query import Query
from threadkit.profiling.decode import NotAProfileError, decode
from threadkit.profiling.merge import merge
from threadkit.profiling.profile import Profile
from threadkit.profiling.window import Window

GRACE = 1.5
"""Seconds that a worker has beyond the profile itself."""


def of_all(neighbours: Neighbours, name: str, query: Query, window: Window) -> Shares:
    """Ask the others now; their shares are there when the own one is."""
    shares = Shares(neighbours, query.target(name), window)
    shares.start()
    return shares


class Shares(threading.Thread):
    """What the other workers answer, gathered beside the own profile; joined by both ends."""

    def __init__(self, neighbours: Neighbours, target: str, window: Window) -> None:
        super().__init__(name="admin-shares", daemon=True)
        self._neighbours = neighbours
        self._question = target
        self._window = window
        self._unwanted = threading.Event()
        self._answers: list[Answer] = []

    def run(self) -> None:
        """Ask all of them."""
        self._answers = self._neighbours.ask_all(
            self._question, seconds=self._window.seconds + GRACE, left=self._unwanted.wait
        )

    def give_up(self) -> None:
        """The answer is not wanted any more; the others end theirs when we hang up."""
        self._unwanted.set()
        self.join(5.0)

    def merged(self, own: Profile) -> Profile:
        """The sum, each sample with a ``pid`` label."""
        profiles = [own.tag(pid=str(os.getpid()))]
        comments = []
        for answer in self._finished():
            if (fault := _fault(answer)) is not None:
                comments.append(f"worker {answer.pid} is missing: {fault}")
                continue
            try:
                share = decode(answer.body).tag(pid=str(answer.pid))
                merge([profiles[0], share])
            except (NotAProfileError, ValueError) as error:
                comments.append(f"worker {answer.pid} is missing: {error}")
                continue
            profiles.append(share)
        total = merge(profiles)
        total.comments += [*comments, f"the sum of {len(profiles)} workers"]
        return total

    def bodies(self) -> list[tuple[bytes, str | None]]:
        """What each answered; or nothing, and which worker is missing and why."""
        found: list[tuple[bytes, str | None]] = []
        for answer in self._finished():
            fault = _fault(answer)
            missing = f"worker {answer.pid} is missing: {fault}" if fault else None
            found.append((answer.body, missing))
        return found

    def texts(self, own: str) -> str:
        """One after the other, each under its pid."""
        parts = [f"# worker {os.getpid()}\n{own}"]
        for answer in self._finished():
            body = answer.body.decode("utf-8", "replace")
            fault = _fault(answer)
            parts.append(f"# worker {answer.pid}{f' is missing: {fault}' if fault else ''}\n")
            parts[-1] += "" if fault else body
        return "\n".join(parts)

    def _finished(self) -> list[Answer]:
        self.join()  # ask_all is bounded
        return self._answers


def _fault(answer: Answer) -> str | None:
    if answer.fault is not None:
        return answer.fault
    if answer.status != 200:
        text = answer.body.decode("utf-8", "replace").strip()
        return f"{answer.status} {text[:200]}"
    return None
