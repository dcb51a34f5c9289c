"""What happens when things go wrong: stock gunicorn and this service, side by side.

    python -m benchmarks.chaos                    # all, some ten minutes
    python -m benchmarks.chaos overload stop      # these

One table. Each figure of this service is judged with a margin, since a machine that is busy with
something else spoils absolute numbers; exit status 1 when one is missed.
"""

from __future__ import annotations

import functools
import sys

from benchmarks.chaos.experiments import EXPERIMENTS
from benchmarks.chaos.subjects import subject

__all__ = ["main"]


def main(names: list[str]) -> int:
    """Run the experiments of these names, or all; 1 where a figure is missed."""
    unknown = set(names) - EXPERIMENTS.keys()
    if unknown:
        known = ", ".join(EXPERIMENTS)
        print(f"There is no experiment {', '.join(sorted(unknown))}; there are {known}.")
        return 2
    missed = 0
    print(f"{'experiment':14} {'figure':34} {'stock gunicorn':>16} {'this service':>14}  wanted")
    for name in names or EXPERIMENTS:
        experiment = EXPERIMENTS[name]
        results = {}
        for who in ("stock", "ours"):
            results[who] = experiment.run(functools.partial(subject, who))
        for figure in experiment.figures(results["stock"], results["ours"]):
            missed += not figure.holds
            verdict = "" if figure.holds else "  MISSED"
            print(
                f"{name:14} {figure.name:34} {figure.stock:>16.4g} {figure.ours:>14.4g}"
                f"  {figure.wanted}{verdict}",
                flush=True,
            )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
