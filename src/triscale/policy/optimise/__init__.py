"""From a pipeline, its profile, a demand and a limited cluster to a `Plan`: one problem type, several solvers.

`Problem.of(...)` compiles the world, `solve(problem)` plans. In between: `points.py` (what one lane of a variant can
do), `ways.py` (how requests may go through the graph), `budgets.py` (how the SLO splits over the stages), and the
solvers `dp.py`, `milp.py`, `greedy.py` and `shared.py`. `check.py` verifies plans with code of its own, `explain.py`
says what limits them, `themis.py` is the paper's planner for comparison.
"""

from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.settings import ReplicaBounds, Settings
from triscale.policy.optimise.solve import Solver, solve

__all__ = ["Problem", "ReplicaBounds", "Settings", "Solver", "solve"]
