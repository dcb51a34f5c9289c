"""What happens when things go wrong: stock gunicorn and this service, side by side.

    python -m benchmarks.chaos                    # all, some twenty minutes
    python -m benchmarks.chaos overload stop      # these

One table; `figures` says how a number is judged. Exit status 1 when one of this service's is
missed. Where stock gunicorn does as well it says so: that row proves no advantage.
"""

from __future__ import annotations

import os
import sys

from benchmarks.chaos.experiments import EXPERIMENTS
from benchmarks.chaos.figures import Wanted

__all__ = ["main"]


def main(names: list[str]) -> int:
    """Run the experiments of these names, or all; 1 where a figure is missed."""
    unknown = set(names) - EXPERIMENTS.keys()
    if unknown:
        known = ", ".join(EXPERIMENTS)
        print(f"There is no experiment {', '.join(sorted(unknown))}; there are {known}.")
        return 2
    missed = 0
    print(f"{'experiment':13} {'figure':36} {'stock gunicorn':>14} {'this service':>12}  wanted")
    for name in names or EXPERIMENTS:
        stock, ours = EXPERIMENTS[name].run()
        for wanted in EXPERIMENTS[name].wanted:
            theirs, own = wanted.of(stock), wanted.of(ours)
            missed += "MISSED" in (verdict := judge(wanted, theirs, own))
            line = f"{name:13} {wanted.name:36} {shown(theirs):>14} {shown(own):>12}"
            print(f"{line}  {wanted.text:8} {verdict}".rstrip(), flush=True)
        print(f"{'':13} (load {os.getloadavg()[0]:.1f})", flush=True)
    return int(missed > 0)


def judge(wanted: Wanted, theirs: float, own: float) -> str:
    """What stands behind the row; nothing where this service holds and stock does not."""
    if wanted.holds is None:
        return ""
    if not wanted.holds(own):
        return "MISSED"
    return "stock as well" if wanted.holds(theirs) else ""


def shown(value: float) -> str:
    """A dash for what was not measured."""
    return "-" if value != value else f"{value:.4g}"  # noqa: PLR0124


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
