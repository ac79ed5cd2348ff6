"""The demonstration that ./demo.sh runs: a coordinator, five nodes, twenty rounds. Standard library only."""

import argparse
import csv
import ctypes
import gzip
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from settings import set_keys

NODES = 5
ROUNDS = 20
SEED = 7
ACCURACY_MIN = 0.93  # What these rounds reach on every machine, with room to spare.
ALPHA = 0.3  # Dirichlet: most nodes have plenty of a few digits and hardly any of the others


LIBC = ctypes.CDLL(None)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Demo:
    def __init__(self, programs, root, folder, keep):
        self.programs, self.root, self.folder, self.keep = programs, root, folder, keep
        self.daemons = []

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def run(self, program, *arguments, text_in=None, allowed=(0,)):
        """Runs one of the programs to its end and gives its standard output."""
        command = [os.path.join(self.programs, program), *arguments]
        done = subprocess.run(command, input=text_in, capture_output=True, text=True)
        if done.returncode not in allowed:
            raise SystemExit(f"demo: '{' '.join(command)}' failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout

    def operator(self, *arguments, **options):
        return self.run("rivulet", "--dir", self.path("coordinator"), *arguments, **options)

    def start(self, name, program, *arguments):
        """Starts a daemon, with its log in NAME.log, and waits for the line that says it is ready."""
        log = open(self.path(name + ".log"), "wb")
        daemon = subprocess.Popen(
            [os.path.join(self.programs, program), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=log, start_new_session=self.keep,
            # A demonstration that is killed leaves nothing running.
            preexec_fn=None if self.keep else lambda: LIBC.prctl(DIE_WITH_PARENT, signal.SIGTERM))
        self.daemons.append((name, daemon))
        line = daemon.stdout.readline()
        if not line:
            raise SystemExit(f"demo: {name} did not start; see {self.path(name + '.log')}")
        return json.loads(line)

    def stop(self):
        for _, daemon in reversed(self.daemons):
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
        for name, daemon in self.daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                print(f"demo: {name} had to be killed", file=sys.stderr)


def dirichlet(generator, alpha, count):
    draws = [generator.gammavariate(alpha, 1.0) for _ in range(count)]
    total = sum(draws)
    return [draw / total for draw in draws]


def split_digits(rows, generator):
    """A test split, and for each node its own share: class by class, by Dirichlet proportions."""
    generator.shuffle(rows)
    test, rest = rows[:360], rows[360:]
    shares = [[] for _ in range(NODES)]
    for label in range(10):
        of_class = [row for row in rest if int(row[-1]) == label]
        begin = 0.0
        for node, part in enumerate(dirichlet(generator, ALPHA, NODES)):
            end = begin + part * len(of_class)
            shares[node] += of_class[round(begin):round(end)]
            begin = end
    return test, shares


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f"p{i}" for i in range(64)] + ["label"])
        writer.writerows(rows)


def write_data(demo):
    with gzip.open(os.path.join(demo.root, "data", "digits", "digits.csv.gz"), "rt") as file:
        rows = [[str(int(float(cell))) for cell in row] for row in csv.reader(file)]
    test, shares = split_digits(rows, random.Random(SEED))
    write_csv(demo.path("test.csv"), test)
    for node, share in enumerate(shares, 1):
        write_csv(demo.path(f"node-{node}.csv"), share)
    with open(demo.path("digits.toml"), "w") as file:
        file.write(SPEC)
    return [len(share) for share in shares]


SPEC = """\
name = "digits"

[model]
architecture = "mlp"
hidden = [64]

[input]
shape = [64]
scale = [16.0]

[task]
kind = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[test]
path = "test.csv"
label = "label"

[version]
snapshot = "int8"
"""

SETTINGS = {
    "round": {"cohort": NODES, "over_selection": 1.0, "cohort_min": 3, "updates_min": 3},
    "training": {"epochs": 5, "batch_size": 10, "learning_rate": 0.2},
    "validation": {"mode": "federated", "evaluators": NODES, "holdout_min": 50, "tolerance": 0.03},
}

# What --keep leaves for later: by then a process that ended may have given its number to another one.
STOP = """\
# Ends the demonstration and removes its folder.
runs() {{ tr '\\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF " run --dir "{folder}/; }}
for pid in {pids}; do
  if runs "$pid"; then kill "$pid"; fi
done
for pid in {pids}; do
  while runs "$pid"; do sleep 0.1; done
done
rm -r {folder}
"""


def start_fleet(demo):
    coordinator = demo.path("coordinator")
    demo.run("rivulet-coordinator", "init", "--dir", coordinator, "--fleet", "demo",
             "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    set_keys(os.path.join(coordinator, "coordinator.toml"), SETTINGS)
    ready = demo.start("coordinator", "rivulet-coordinator", "run", "--dir", coordinator)
    print(f"coordinator  nodes at {ready['listen']}, admin at {ready['admin']}", flush=True)
    demo.operator("model", "import", demo.path("digits.toml"),
                  "--release-key", os.path.join(coordinator, "offline", "release.key"))
    token = demo.operator("token", "create", "--expires", "1h", "--uses", str(NODES)).strip()
    apis = []
    for node in range(1, NODES + 1):
        folder = demo.path(f"node-{node}")
        demo.run("rivulet-node", "join", "-", "--dir", folder, text_in=token)
        apis.append(demo.start(f"node-{node}", "rivulet-node", "run", "--dir", folder)["api"])
        demo.run("rivulet-node", "ingest", "--dir", folder, demo.path(f"node-{node}.csv"), "--label", "label")
    return apis


def wait_for_samples(demo, counts):
    """Until each node has told the coordinator of its samples, so that the first round finds all."""
    for _ in range(300):
        nodes = json.loads(demo.operator("nodes", "--json"))
        if sum(1 for node in nodes if node["samples"] > 0) == len(counts):
            return
        time.sleep(0.2)
    raise SystemExit("demo: the nodes did not report their samples within a minute")


def newest_version(demo):
    return max(json.loads(demo.operator("model", "list", "--json")), key=lambda version: version["version"])


def draw(line, last=False):
    """One line that is drawn over on a terminal, and printed once when it is final elsewhere."""
    if sys.stdout.isatty():
        print("\r\033[K" + line, end="\n" if last else "", flush=True)
    elif last:
        print(line, flush=True)


def run_rounds(demo):
    print(f"{'round':>5}  {'participants':>12}  {'down':>9}  {'up':>9}  {'accuracy':>8}  {'seconds':>7}")
    accuracy = 0.0
    for number in range(1, ROUNDS + 1):
        draw(f"{number:5}  training ...")
        begun = time.monotonic()
        # Status 1: the nodes' own samples say that the candidate is worse, and it was not published.
        demo.operator("round", "start", "--count", "1", "--wait", allowed=(0, 1))
        last = json.loads(demo.operator("round", "list", "--json"))[-1]
        version = newest_version(demo)
        accuracy = version["metrics"]["accuracy"]
        draw(f"{number:5}  {last['accepted']:12}  {last['download_bytes']:9,}  {last['upload_bytes']:9,}  "
             f"{accuracy:8.3f}  {time.monotonic() - begun:7.1f}"
             + ("" if last["version"] else f"  {last['state']}: {last['reason']}"), last=True)
    return accuracy


def show_inference(demo, api):
    sample = demo.path("sample.csv")
    rows = list(csv.reader(open(demo.path("test.csv"))))
    with open(sample, "w") as file:
        file.write("\n".join(",".join(row[:-1]) for row in [rows[0]] + rows[1:4]) + "\n")
    print(f"\nthree test samples, labelled {', '.join(row[-1] for row in rows[1:4])}, on node 1 (api {api}):")
    print(demo.run("rivulet-node", "infer", "--dir", demo.path("node-1"), sample).rstrip())


def show_where(demo, apis):
    if not demo.keep:
        print("\n./demo.sh --keep leaves the fleet running, with its logs, data and keys")
        return
    print(f"\nlogs, data and keys are in {demo.folder}")
    print("node APIs: " + ", ".join(apis))
    print(f"try: {os.path.join(demo.programs, 'rivulet')} --dir {demo.path('coordinator')} status")
    with open(demo.path("stop.sh"), "w") as file:
        file.write(STOP.format(folder=shlex.quote(demo.folder), pids=" ".join(str(daemon.pid) for _, daemon in demo.daemons)))
    print(f"stop everything: sh {shlex.quote(demo.path('stop.sh'))}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--programs", required=True)
    arguments.add_argument("--keep", action="store_true")
    options = arguments.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    demo = Demo(os.path.abspath(options.programs), root, tempfile.mkdtemp(prefix="rivulet-demo-"), options.keep)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # As nohup leaves it.
            signal.signal(number, lambda *_: sys.exit(1))
    finished = False
    try:
        counts = write_data(demo)
        print(f"{NODES} nodes with {', '.join(map(str, counts))} samples (Dirichlet {ALPHA}); data: UCI optical digits")
        apis = start_fleet(demo)
        wait_for_samples(demo, counts)
        accuracy = run_rounds(demo)
        print("\n" + demo.operator("model", "list").rstrip())
        show_inference(demo, apis[0])
        show_where(demo, apis)
        finished = True
        print(f"final accuracy {accuracy:.3f}", flush=True)
        if accuracy < ACCURACY_MIN:
            print(f"demo: {ACCURACY_MIN} and more was expected: something is wrong", file=sys.stderr)
            sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)  # As the shell says it.
    finally:
        if not (finished and options.keep):
            demo.stop()
        if finished and not options.keep:
            shutil.rmtree(demo.folder)
        elif not finished:
            print(f"demo: stopped early; the logs are in {demo.folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
