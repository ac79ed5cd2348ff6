"""A fleet of the real programs on this machine, for the end-to-end tests. Standard library only."""

import csv
import ctypes
import gzip
import http.client
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
from settings import set_keys  # noqa: E402: the line above is what finds it.

POLL_SECONDS = 0.05
LIBC = ctypes.CDLL(None)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

SPEC = """\
name = "digits"

[model]
architecture = "mlp"
hidden = [{hidden}]

[input]
shape = [64]
mean = [4.0]
scale = [16.0]

[task]
kind = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[test]
path = "test.csv"
label = "label"
"""

# Deadlines in seconds: what is not there by then will not come.
SETTINGS = {
    "round": {"over_selection": 1.0, "cohort_min": 2, "updates_min": 2, "selection_patience_s": 5,
              "selection_deadline_s": 30, "deadline_s": 30, "failure_pause_s": 0},
    "training": {"epochs": 2, "learning_rate": 0.05},
    "validation": {"mode": "federated", "evaluators_min": 2, "holdout_min": 20, "tolerance": 0.1, "deadline_s": 15},
    "limits": {"heartbeat_s": 5, "shutdown_backoff_ms": 100, "verdict_rounds": 10000},
}


def wait_for(what, condition, patience=60.0):
    """Asks `condition` again and again until it gives something true, and gives that."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} s in vain: {what}")
        time.sleep(POLL_SECONDS)


def free_port():
    """A port below the range of outgoing connections: one that a daemon gets again after a restart."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        lowest = int(file.read().split()[0])
    while True:
        port = random.randrange(max(1024, lowest - 12000), lowest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def run_program(command, environment=None, text_in="", patience=120):
    """Runs a program to its end. @return its exit status (negative: its signal), standard output and error."""
    done = subprocess.run([str(part) for part in command], input=text_in, capture_output=True, text=True,
                          env=environment_with(environment), timeout=patience, check=False)
    return done.returncode, done.stdout, done.stderr


def environment_with(extra):
    ours = {key: value for key, value in os.environ.items() if not key.startswith("RIVULET_")}
    return {**ours, **(extra or {})}


class Daemon:
    """One of the two daemons over all its lives; they share a log of JSON lines."""

    def __init__(self, name, command, log):
        self.name, self.command, self.log = name, [str(part) for part in command], log
        self.process = None
        self.ready = None

    def start(self, environment=None):
        """@return what it says once it is ready; None if it ended before."""
        assert not self.alive()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "--log-format", "json", "--log-level", "debug"], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, env=environment_with(environment),
                preexec_fn=lambda: LIBC.prctl(DIE_WITH_PARENT, signal.SIGKILL))
        if not select.select([self.process.stdout], [], [], 60)[0]:
            raise AssertionError(f"{self.name} was not ready in 60 s")
        line = self.process.stdout.readline()
        if not line:
            self.wait(30)
        self.ready = json.loads(line) if line else None
        return self.ready

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def send(self, number):
        self.process.send_signal(number)

    def wait(self, patience=60):
        """@return the exit status; negative: the signal that ended it."""
        try:
            return self.process.wait(patience)
        finally:
            if self.process.poll() is not None:
                self.process.stdout.close()

    def stop(self, number=signal.SIGTERM, patience=10):
        self.send(number)
        return self.wait(patience)

    def kill(self):
        if self.alive():
            self.process.kill()
            self.wait()

    def events(self, name=None):
        """What it logged, each a dictionary; a line that a kill tore is left out."""
        entries = []
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if name is None or entry["event"] == name:
                entries.append(entry)
        return entries

    def events_of_life(self):
        """What it logged since it last started."""
        entries = self.events()
        starts = [i for i, entry in enumerate(entries) if entry["event"] == "started"]
        return entries[starts[-1]:] if starts else entries


class Fleet:
    """A coordinator and nodes in a temporary folder, which stays if the test fails."""

    def __init__(self, programs, nodes=3, settings=None, hidden=16):
        self.programs = pathlib.Path(programs).resolve()
        self.spec = SPEC.format(hidden=hidden)
        self.count = nodes
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rivulet-e2e-"))
        self.directory = self.folder / "coordinator"
        self.coordinator = self.daemon("coordinator", "rivulet-coordinator", self.directory)
        self.nodes = [self.daemon(f"node-{i + 1}", "rivulet-node", self.folder / f"node-{i + 1}") for i in range(nodes)]
        self.settings = {name: {**keys, **(settings or {}).get(name, {})} for name, keys in SETTINGS.items()}
        self.settings["round"].setdefault("cohort", nodes)
        self.settings["validation"].setdefault("evaluators", nodes)
        self.secrets = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for daemon in [self.coordinator, *self.nodes]:
            daemon.kill()
        if kind is None:
            shutil.rmtree(self.folder)
        else:
            print(f"the folders and logs are kept in {self.folder}", file=sys.stderr)

    def daemon(self, name, program, directory):
        return Daemon(name, [self.programs / program, "run", "--dir", directory], self.folder / f"{name}.log")

    def directory_of(self, node):
        return self.folder / node.name

    # ---- Commands

    def run(self, program, *arguments, text_in="", patience=120):
        """Runs a program that must succeed. @return its standard output."""
        status, out, err = run_program([self.programs / program, *arguments], text_in=text_in, patience=patience)
        assert status == 0, f"{program} {' '.join(map(str, arguments))}: status {status}: {err.strip()}"
        return out

    def operate(self, *arguments, patience=120):
        return self.run("rivulet", "--dir", self.directory, *arguments, patience=patience)

    def ask(self, *arguments):
        return json.loads(self.operate(*arguments, "--json"))

    def run_python(self, script, *arguments):
        status, out, err = run_program([sys.executable, script, *arguments])
        assert status == 0, err
        return out

    def get(self, node, path):
        """@return the body of a GET of the node's API; None if it does not answer."""
        token = (self.directory_of(node) / "api.token").read_text().strip()
        connection = http.client.HTTPConnection(node.ready["api"], timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def node_status(self, node):
        """@return None while its daemon does not answer."""
        body = self.get(node, "/v1/status") if node.alive() and node.ready else None
        return json.loads(body) if body else None

    # ---- From nothing to a fleet that is ready for rounds

    def found(self):
        self.run("rivulet-coordinator", "init", "--dir", self.directory, "--fleet", "e2e",
                 "--listen", f"127.0.0.1:{free_port()}", "--admin", "127.0.0.1:0")
        set_keys(self.directory / "coordinator.toml", self.settings)
        self.secrets.append((self.directory / "admin.token").read_text().strip())
        return self

    def import_model(self):
        self.operate("model", "import", self.folder / "digits.toml",
                     "--release-key", self.directory / "offline" / "release.key")

    def write_spec(self):
        """The specification of a model, its test split, and for each node its own share of samples."""
        (self.folder / "digits.toml").write_text(self.spec)
        with gzip.open(ROOT / "data/digits/digits.csv.gz", "rt") as file:
            rows = [[int(float(cell)) for cell in row] for row in csv.reader(file)]
        random.Random(5).shuffle(rows)
        test, rest = rows[:300], rows[300:]
        shares = [rest[i::self.count] for i in range(self.count)]
        for name, part in [("test", test), *((node.name, share) for node, share in zip(self.nodes, shares))]:
            with open(self.folder / f"{name}.csv", "w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([f"p{i}" for i in range(64)] + ["label"])
                writer.writerows(part)

    def token(self, uses=1):
        token = self.operate("token", "create", "--expires", "1h", "--uses", str(uses)).strip()
        self.secrets.append(token)
        return token

    def join(self, node, token):
        self.run("rivulet-node", "join", "-", "--dir", self.directory_of(node), text_in=token + "\n")
        self.secrets.append((self.directory_of(node) / "api.token").read_text().strip())

    def ingest(self, node):
        self.run("rivulet-node", "ingest", "--dir", self.directory_of(node), self.folder / f"{node.name}.csv",
                 "--label", "label")

    def start_all(self):
        """Founds the fleet, starts every daemon, and waits until each node is ready for a round."""
        self.found()
        self.write_spec()
        assert self.coordinator.start()
        self.import_model()
        token = self.token(uses=self.count)
        for node in self.nodes:
            self.join(node, token)
            self.ingest(node)
            assert node.start()
        self.wait_until_ready()
        return self

    def wait_until_ready(self):
        wait_for("every node is there with its samples", lambda: sum(
            node["connected"] and node["samples"] > 0 for node in self.ask("nodes")) == self.count)

    # ---- Rounds

    def running_round(self):
        """Whether a round is under way or scheduled."""
        status = self.ask("status")
        return status["round"] is not None or status["schedule"]["until"] > status["schedule"]["started"]

    def rounds(self):
        return self.ask("round", "list")

    def versions(self):
        return self.ask("model", "list")

    def audit(self):
        return self.operate("audit").splitlines()

    def run_rounds(self, count=1):
        return self.operate("round", "start", "--count", str(count), "--wait")

    def wait_until_idle(self, patience=90):
        wait_for("no round is under way", lambda: not self.running_round(), patience)

    def wait_until_served(self, nodes=None):
        """Until these nodes serve the newest version."""
        newest = self.versions()[-1]["version"]
        for node in nodes or self.nodes:
            wait_for(f"{node.name} serves version {newest}",
                     lambda: ((self.node_status(node) or {}).get("serving") or {}).get("version") == newest)
        return newest


def one_line(text, program):
    """Whether it is exactly one line that begins with the program's name."""
    return re.fullmatch(rf"{re.escape(program)}: [^\n]+\n", text) is not None


def arguments_of(description, names):
    """The command line of a test: one path for each name."""
    if len(sys.argv) != len(names) + 1:
        print(f"{description}\nusage: {sys.argv[0]} {' '.join(names)}", file=sys.stderr)
        sys.exit(2)
    return [pathlib.Path(argument).resolve() for argument in sys.argv[1:]]
