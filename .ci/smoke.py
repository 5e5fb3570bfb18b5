"""What an installed wheel must do with the core's own dependencies alone."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import stemseg_core
from stemseg_core import datasets, segment

assert find_spec("matplotlib") is None, "this is to run without the extras"
stemseg_core.show_versions()

image, truth = datasets.two_phase((192, 192))
result = segment(image, 2, window=48, step=12)
agreement = (result.label_image == truth).mean()
print(result, f"agreement {max(agreement, 1 - agreement):.3f}")
assert max(agreement, 1 - agreement) > 0.9

try:
    result.plot()
except ImportError as error:
    print("without matplotlib:", error)
    assert "stemseg-core[cli]" in str(error)
else:
    raise AssertionError("a plot without matplotlib")

command = subprocess.run([Path(sys.executable).parent / "stemseg", "demo"], capture_output=True, text=True, check=False)
print("stemseg demo:", command.returncode, command.stderr.strip())
assert command.returncode == 2
assert "stemseg-core[cli]" in command.stderr
