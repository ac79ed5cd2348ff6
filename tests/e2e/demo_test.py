"""The demonstration with --keep: NumPy computes the accuracy that it tells, and what it leaves running can be stopped."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from fleet import ROOT, arguments_of, run_program, wait_for


def said(pattern, text):
    """What the one line of `text` that matches says in its group."""
    found = re.findall(pattern, text, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} lines like '{pattern}' in:\n{text}"
    return found[0]


def run_python(script, *arguments):
    status, out, err = run_program([sys.executable, script, *arguments], patience=300)
    assert status == 0, f"{script}: status {status}: {err}"
    return out


def check_accuracy(programs, folder, last):
    """The newest version's, as the coordinator tells it, as NumPy computes it, and as the last line rounds it."""
    operate = [programs / "rivulet", "--dir", folder / "coordinator", "model"]
    status, out, err = run_program([*operate, "list", "--json"])
    assert status == 0, err
    versions = json.loads(out)
    newest = max(versions, key=lambda version: version["version"])
    told = newest["metrics"]["accuracy"]
    file = folder / "model.npz"
    status, _, err = run_program([*operate, "export", str(newest["version"]), "--format", "npz", "--out", file])
    assert status == 0, err
    recomputed = float(run_python(ROOT / "tests/e2e/recompute.py", file, folder / "test.csv"))
    print(f"version {newest['version']}: the coordinator tells {told:.6f}, NumPy computes {recomputed:.6f}, "
          f"the demonstration ends with '{last}'")
    assert abs(told - recomputed) < 1e-6
    assert last == f"final accuracy {recomputed:.3f}"
    assert recomputed >= 0.93 and len(versions) > 10, versions


def daemons_of(folder):
    """The numbers of the processes that run with this folder."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # It ended.
        if any(word.startswith(bytes(folder) + b"/") for word in words) and b"run" in words:
            found.append(int(process.name))
    return found


def check_early_end(programs, number):
    """A demonstration that is hung up, or killed so that it can do nothing more, leaves no daemon."""
    with tempfile.TemporaryDirectory(prefix="rivulet-demo-test-") as folder:
        demo = subprocess.Popen([sys.executable, ROOT / "scripts/demo.py", "--programs", programs],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                env={**os.environ, "TMPDIR": folder})
        try:
            while "training" not in (line := demo.stdout.readline()) and "participants" not in line:
                assert line, "it ended before its first round"
            assert len(daemons_of(pathlib.Path(folder))) == 6
            demo.send_signal(number)
            assert demo.wait(60) != 0
            wait_for("its daemons end", lambda: not daemons_of(pathlib.Path(folder)), patience=30)
        finally:
            demo.kill()
            demo.wait()
            demo.stdout.close()


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    if subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True, check=False).returncode != 0:
        print("skipped: this Python has no numpy; install python3-numpy")
        return 77  # What ctest takes for a skipped test.
    for number in (signal.SIGHUP, signal.SIGKILL):
        check_early_end(programs, number)
    out = run_python(ROOT / "scripts/demo.py", "--programs", programs, "--keep")
    folder = pathlib.Path(said(r"^logs, data and keys are in (/\S+)$", out))
    stop = said(r"^stop everything: (.+)$", out)
    try:
        rounds = re.findall(r"^ +(\d+) +(\d+) +[\d,]+ +[\d,]+ +(0\.\d{3}) +[\d.]+", out, re.MULTILINE)
        assert [int(number) for number, _, _ in rounds] == list(range(1, len(rounds) + 1)) and len(rounds) >= 10, out
        check_accuracy(programs, folder, out.splitlines()[-1])
        assert len(daemons_of(folder)) == 6, "a coordinator and five nodes are left running"
    finally:
        status, _, err = run_program(["sh", "-c", stop])
    assert status == 0 and not err, f"'{stop}': status {status}: {err}"
    assert not folder.exists() and not daemons_of(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
