"""Runs the benchmarks of all stages, each in a process of its own: prints their tables, and refreshes the docs page.

    python bench/all.py                  # all tables on the terminal
    python bench/all.py --write          # and into docs/benchmarks.md
    python bench/all.py --quick          # small data, one round: does everything run?
    python bench/all.py nmf kmeans       # these only

A peer that is not installed is left out, and named; a benchmark that fails does not stop the others.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

STAGES = ("windows", "svd", "nfindr", "endmembers", "abundances", "nmf", "ica", "kmeans", "dense", "quality")


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the benchmarks of all stages.")
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small data, one round: shows that everything runs")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--rounds", type=int, help="rounds of each race (default: 5)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.stages) - set(STAGES))
    if unknown:
        parser.error(f"no benchmark of {', '.join(unknown)}; there are {', '.join(STAGES)}")
    if arguments.write and arguments.quick:
        parser.error("--quick measures nothing worth writing down")
    options = ["--quick"] * arguments.quick + ["--write"] * arguments.write
    if arguments.rounds:
        options += ["--rounds", str(arguments.rounds)]
    failed = []
    for stage in arguments.stages or STAGES:
        print(f"\n=== {stage}", flush=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, Path(__file__).with_name(f"{stage}.py"), *options], check=False)
        print(f"=== {stage}: {time.perf_counter() - start:.0f} s", flush=True)
        if done.returncode:
            failed.append(stage)
    if failed:
        print(f"\nDid not run to the end: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
