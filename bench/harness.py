"""What every benchmark shares: contenders timed in turns, their ratio to ours, the roofline, and the tables.

A benchmark is a function that yields races; `main` gives it a command line::

    python bench/windows.py            # prints the tables
    python bench/windows.py --quick    # small data, one round: does it run?
    python bench/windows.py --write    # and puts the tables into docs/benchmarks.md

`bench/all.py` runs all of them.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from machine import Limits, Work, conditions, load, measure
from sklearn.exceptions import ConvergenceWarning

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Contender:
    """Who runs: `run` does the job, or the `share` of it that is timed and scaled up.

    `once`: it takes so long that it runs in the first round only, and is not warmed up.
    """

    name: str
    run: Callable[[], Any]
    share: float = 1.0
    once: bool = False

    @property
    def label(self) -> str:
        how = [f"{self.share:.2g} of the job, scaled"] * (self.share != 1) + ["once"] * self.once
        return f"{self.name} ({', '.join(how)})" if how else self.name

    def clock(self) -> tuple[Any, float]:
        """Result and time of the whole job."""
        start = time.perf_counter()
        result = self.run()
        seconds = time.perf_counter() - start
        if isinstance(result, Timed):
            result, seconds = result.result, result.seconds
        return result, seconds / self.share


@dataclass(frozen=True)
class Timed:
    """What a contender returns that stops its own watch, as one does that is inspected between two laps."""

    result: Any
    seconds: float


@dataclass
class Race:
    """One job and those who do it; the first is ours.

    `units` and `unit`: the count of what the job makes, for the time of one. `work`: what the job needs, if a roofline
    makes sense. `quality` gives what was reached from a result, since a time means nothing without it.
    """

    title: str
    contenders: Sequence[Contender]
    units: int = 0
    unit: str = ""
    work: Work | None = None
    quality: Callable[[Any], str] | None = None
    quality_name: str = "reached"
    notes: list[str] = field(default_factory=list)


@dataclass
class Table:
    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]

    def text(self) -> str:
        widths = [max(len(row[i]) for row in (self.head, *self.rows)) for i in range(len(self.head))]
        lines = [
            "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))  # noqa: B905
            for row in (self.head, ["-" * w for w in widths], *self.rows)
        ]
        return "\n".join([self.title, *lines, *self.notes])

    def markdown(self) -> str:
        rule = ["---", *["--:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows)]
        return "\n\n".join([f"**{self.title}**", "\n".join(lines), *self.notes])


def run(race: Race, rounds: int, limits: Limits) -> Table:
    """Warm every contender up, then let all of them run once a round, each round with another one first."""
    results = [None if contender.once else contender.run() for contender in race.contenders]
    n = len(race.contenders)
    seconds = np.full((rounds, n), np.nan)
    for r in range(rounds):
        for c in np.roll(np.arange(n), -r):
            if r == 0 or not race.contenders[c].once:
                results[c], seconds[r, c] = race.contenders[c].clock()
    return tabulate(race, seconds, results, limits)


def tabulate(race: Race, seconds: np.ndarray, results: list[Any], limits: Limits) -> Table:
    typical = np.nanmedian(seconds, axis=0)
    columns: list[tuple[str, list[str]]] = [
        ("", [contender.label for contender in race.contenders]),
        ("time", [duration(t) for t in typical]),
        ("fastest to slowest", [f"{duration(np.nanmin(t))} - {duration(np.nanmax(t))}" for t in seconds.T]),
    ]
    if race.units:
        columns.append((f"a {race.unit}", [duration(t) for t in typical / race.units]))
    # The ratio of one round first: what slows the machine for a while slows both.
    columns.append(("times ours", [f"{q:.3g}" for q in np.nanmedian(seconds / seconds[:, :1], axis=0)]))
    if race.work is not None:
        roof = race.work.seconds(limits)
        columns.append(("of the roofline", [f"{roof / t:.1%}" for t in typical]))
        race.notes.append(roofline(race.work, limits))
    if race.quality is not None:
        columns.append((race.quality_name, [race.quality(result) for result in results]))
    heads, cells = zip(*columns, strict=True)
    return Table(race.title, list(heads), [list(row) for row in zip(*cells, strict=True)], race.notes)


def roofline(work: Work, limits: Limits) -> str:
    return (
        f"The job needs {work.flops / 1e9:.3g} G operations, {work.read / 1e6:.3g} MB read and "
        f"{work.written / 1e6:.3g} MB of new memory: {duration(work.seconds(limits))} at the limits of this machine."
    )


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main(
    stage: str,
    races: Callable[[argparse.Namespace], Iterable[Race | Table]],
    *,
    peers: tuple[str, ...] = (),
    options: Callable[[argparse.ArgumentParser], Any] | None = None,
) -> None:
    """Command line of one benchmark; `races` gets the parsed options, `peers` are packages whose versions matter.

    What is not a race but measured already comes as a table.
    """
    parser = argparse.ArgumentParser(description=f"Races {stage} against its peers and the limits of the machine.")
    parser.add_argument("--quick", action="store_true", help="small data, one round: shows that everything runs")
    parser.add_argument("--rounds", type=int, help="rounds of the race (default: 5)")
    parser.add_argument(
        "--write", action="store_true", help=f"put the tables into {DOCUMENT.parent.name}/{DOCUMENT.name}"
    )
    if options is not None:
        options(parser)
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--quick measures nothing worth writing down")
    warnings.simplefilter("ignore", ConvergenceWarning)  # iterations are limited on purpose
    loads, here = [load()], conditions(peers)
    limits = measure(quick=arguments.quick)
    print(here, limits if arguments.quick else f"{measure(1)}\n{limits}", sep="\n", flush=True)
    tables = []
    for race in races(arguments):
        rounds = arguments.rounds or (1 if arguments.quick else 5)
        tables.append(race if isinstance(race, Table) else run(race, rounds, limits))
        print(f"\n{tables[-1].text()}", flush=True)
    loads.append(load())
    print(f"\nLoad of the machine: {loads[0]} before, {loads[1]} after.")
    if arguments.write:
        about = f"{date.today():%Y-%m-%d}. {here} Load before and after: {', '.join(loads)}. Limits of {limits}."
        write(stage, "\n\n".join([about, *(table.markdown() for table in tables)]))


def write(stage: str, markdown: str) -> None:
    """Replace what stands between the two marks of a stage in the document, or add a section."""
    begin, end = f"<!-- python bench/{stage}.py --write -->", f"<!-- end of {stage} -->"
    section = f"{begin}\n\n{markdown}\n\n{end}"
    text = DOCUMENT.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not place.search(text):
        text = f"{text.rstrip()}\n\n## {stage}\n\n{section}\n"
    DOCUMENT.write_text(place.sub(lambda _: section, text), encoding="utf-8")
