"""Calls of passes with keywords, until every room hands on an `Execution`."""

from __future__ import annotations

import threading
from typing import Any

from stemseg_core.rows import blocks
from stemseg_core.system.execution import Execution


def run(
    function: Any, rows: Any, *state: Any, n_jobs: Any = None, progress: Any = None, stage: str = "", **more: Any
) -> Any:
    """As `Execution.run`."""
    return Execution.of(n_jobs, None, progress, stage).run(function, rows, *state, **more)


def refuse_too_small(
    rows: Any, squares: float, shift: Any = None, *, n_jobs: Any = None, progress: Any = None, stage: str = ""
) -> None:
    """As in `blocks`."""
    blocks.refuse_too_small(rows, squares, Execution.of(n_jobs, None, progress, stage), shift)


def map_tasks(
    function: Any,
    tasks: Any,
    n_jobs: Any = None,
    *,
    progress: Any = None,
    stage: str = "",
    stop: threading.Event | None = None,
) -> list[Any]:
    """As `Execution.map`."""
    execution = Execution.of(n_jobs, None, progress, stage)
    return execution.map(function, tasks, stage=stage or " " * (progress is not None), stop=stop)


def tell(progress: Any, done: int, total: int, stage: str) -> None:
    """As `Execution.report`."""
    Execution(1, None, progress).report(done, total, stage)
