"""The accuracy that the coordinator tells is the one that NumPy computes from the exported weights."""

import subprocess
import sys

from fleet import Fleet, ROOT, arguments_of

ROUNDS = 3


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    if subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True, check=False).returncode != 0:
        print("skipped: this Python has no numpy; install python3-numpy")
        return 77  # What ctest takes for a skipped test.
    with Fleet(programs) as fleet:
        fleet.start_all()
        fleet.run_rounds(ROUNDS)
        versions = fleet.versions()
        assert len(versions) == ROUNDS + 1, versions
        for version in versions:
            number, told = version["version"], version["metrics"]["accuracy"]
            file = fleet.folder / f"{number}.npz"
            fleet.operate("model", "export", str(number), "--format", "npz", "--out", file)
            recomputed = float(fleet.run_python(ROOT / "tests/e2e/recompute.py", file, fleet.folder / "test.csv"))
            print(f"version {number}: the coordinator tells {told:.6f}, NumPy computes {recomputed:.6f}")
            assert abs(told - recomputed) < 1e-6
        assert versions[-1]["metrics"]["accuracy"] > versions[0]["metrics"]["accuracy"] + 0.3, "it did not learn"
    return 0


if __name__ == "__main__":
    sys.exit(main())
