"""From a pipeline, its profile, a demand and a limited cluster to a `Plan`: one problem type, several solvers.

`Problem.of(...)` compiles the world, `solve(problem)` plans. In between: `points.py` (what one lane of a variant can
do), `routes.py` (how requests spread over the graph), `budgets.py` (how the SLO splits over stages), and the solvers
`dp.py`, `milp.py`, `greedy.py` and `shared.py`. `check.py` verifies plans with code of its own.
"""

from triscale.policy.optimise.settings import Settings

__all__ = ["Settings"]
