"""Checksums of a fixed set of results, to see whether a change of the code changes one bit of any of them.

    python tests/checksums.py write FILE.json      # before the change
    python tests/checksums.py compare FILE.json    # after it, on the same machine; exit status 1 if anything differs

It uses the installed package, and of that only what is public, so that it runs whatever the modules are called. A
file is of one level of kernels, which ``STEMSEG_SIMD=baseline|v3|v4`` chooses: write one for each. Files compare only
where kernels, libraries and BLAS are the same: elsewhere results may differ in their last digits.
`tests/checksum_cases` is what is computed.
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import numpy as np
import threadpoolctl
from checksum_cases import CASES, digest

import stemseg_core

#: What may change the last digits of a result, the pixels of a picture, or the bytes of a file.
LIBRARIES = ("numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "tifffile", "rosettasciio", "h5py")


def environment():
    """What must be the same for sums to be the same."""
    blas = {
        f"{library['internal_api']} {library.get('version')} {library.get('architecture')}"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }
    found = {name: version(name) for name in LIBRARIES}
    return found | {"SIMD level": stemseg_core.SIMD_LEVEL, "BLAS": ", ".join(sorted(blas))}


def compute(pattern):
    """Checksums by name, seconds by name, and the errors of those that could not be computed."""
    names = [name for name in CASES if fnmatch(name, pattern)]
    sums, seconds, errors = {}, {}, {}
    for done, name in enumerate(names, start=1):
        if sys.stderr.isatty():
            print(f"\r\033[K{done} of {len(names)}: {name}", end="", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # iterations are stopped early, and phases doubted
                sums[name] = digest(CASES[name]())
        except Exception:
            errors[name] = traceback.format_exc()
        seconds[name] = time.perf_counter() - start
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return sums, seconds, errors


def compare(stored, pattern, sums, errors):
    """Print what differs; returns how many names do."""
    wanted = {name: value for name, value in stored.items() if fnmatch(name, pattern)}
    found = {name: "different" for name in sums.keys() & wanted.keys() if sums[name] != wanted[name]}
    found |= dict.fromkeys(sums.keys() - wanted.keys(), "not in the file")
    found |= dict.fromkeys(wanted.keys() - sums.keys(), "missing: in the file alone")
    found |= {name: f"failed: {error.strip().splitlines()[-1]}" for name, error in errors.items()}
    for name in sorted(found):
        print(f"{name}: {found[name]}")
    print(f"{len(sums) - len(found.keys() & sums.keys())} of {len(wanted)} results are the same to the bit")
    return len(found)


def arguments():
    parser = argparse.ArgumentParser(description="Checksums of results, before and after a change of the code.")
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names such as 'nmf/*' (default: all)")
    parser.add_argument("--times", action="store_true", help="print the slowest results")
    return parser.parse_args()


def main():
    words = arguments()
    here = environment()
    stored = None
    if words.action == "compare":
        stored = json.loads(words.file.read_text(encoding="utf-8"))
        there = stored["environment"]
        unlike = [n for n in sorted(here.keys() | there.keys()) if here.get(n) != there.get(n)]
        if unlike:
            changes = "; ".join(f"{n}: {there.get(n)} in the file, {here.get(n)} here" for n in unlike)
            sys.exit(f"{words.file}: cannot be compared, as sums may differ for other reasons than the code: {changes}")
    print(f"stemseg_core of {Path(stemseg_core.__file__).parent}, kernels {here['SIMD level']}", file=sys.stderr)
    start = time.perf_counter()
    sums, seconds, errors = compute(words.only)
    print(f"{len(sums)} results in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    if not seconds:
        sys.exit(f"--only {words.only}: no result has such a name")
    for error in errors.values():
        print(error, file=sys.stderr)
    if words.times:
        for name in sorted(seconds, key=seconds.get, reverse=True)[:60]:
            print(f"{seconds[name]:6.2f} s {name}", file=sys.stderr)
    if stored is not None:
        return 1 if compare(stored["sums"], words.only, sums, errors) else 0
    if errors:
        sys.exit(f"nothing was written: {len(errors)} failed ({', '.join(sorted(errors))})")
    text = json.dumps({"environment": here, "sums": sums}, indent=1, sort_keys=True)
    words.file.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
