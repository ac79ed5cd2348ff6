"""Whatever is wrong with a command, its answer is one clear line and the status that the contract names."""

import gzip
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

from fleet import Fleet, arguments_of, one_line, run_program

FAILED, WRONG = 1, 2
NOBODY = "127.0.0.1:1"  # tcpmux: nothing listens there.

WRONG_USAGE = [  # program, arguments, a word of the answer
    ("rivulet-coordinator", [], "subcommand"),
    ("rivulet-coordinator", ["fly"], "fly"),
    ("rivulet-coordinator", ["init"], "--dir"),
    ("rivulet-coordinator", ["init", "--dir", "{new}", "--fly"], "--fly"),
    ("rivulet-coordinator", ["init", "--dir", "{new}", "--listen", "here"], "--listen"),
    ("rivulet-coordinator", ["init", "--dir", "{new}", "--admin", "127.0.0.1:99999"], "--admin"),
    ("rivulet-coordinator", ["init", "--dir", "{new}", "--fleet", ""], "fleet"),
    ("rivulet-coordinator", ["init", "--dir", "{file}"], "is not a folder"),
    ("rivulet-coordinator", ["init", "--dir", ""], "empty"),
    ("rivulet-coordinator", ["init", "--dir", "{new}" + "w" * 300], "too long"),
    ("rivulet-coordinator", ["init", "--dir", "{coordinator}"], "nothing was changed"),
    ("rivulet-coordinator", ["run"], "--dir"),
    ("rivulet-coordinator", ["run", "--dir", "{new}"], "rivulet-coordinator init"),
    ("rivulet-coordinator", ["run", "--dir", "{empty}"], "rivulet-coordinator init"),
    ("rivulet-coordinator", ["run", "--dir", "{coordinator}", "--fly"], "--fly"),
    ("rivulet-coordinator", ["run", "--dir", "{coordinator}", "--log-level", "loud"], "loud"),
    ("rivulet-coordinator", ["run", "--dir", "{coordinator}", "--log-format", "xml"], "xml"),
    ("rivulet-node", [], "subcommand"),
    ("rivulet-node", ["fly"], "fly"),
    ("rivulet-node", ["join", "--dir", "{new}"], "TOKEN"),
    ("rivulet-node", ["join", "rubbish", "--dir", "{new}"], "token"),
    ("rivulet-node", ["join", "{token}", "--dir", "{node}"], "nothing was changed"),
    ("rivulet-node", ["run"], "--dir"),
    ("rivulet-node", ["run", "--dir", "{new}"], "rivulet-node join"),
    ("rivulet-node", ["run", "--dir", "{empty}"], "rivulet-node join"),
    ("rivulet-node", ["run", "--dir", "{coordinator}"], "is not a node's folder"),
    ("rivulet-node", ["run", "--dir", "{node}", "--fly"], "--fly"),
    ("rivulet-node", ["run", "--dir", "{node}", "--log-level", "loud"], "loud"),
    ("rivulet-node", ["ingest", "--dir", "{new}", "{file}"], "is not a node's folder"),
    ("rivulet-node", ["ingest", "--dir", "{node}"], "FILE"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{new}", "--label", "label"], "there is no such file"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{new}.csv", "--label", "label"], "there is no such file"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{empty}"], "is a folder"),
    ("rivulet-node", ["infer", "--dir", "{node}", "{new}.csv"], "there is no such file"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{data}", "--label", "colour"], "colour"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{data}", "--format", "xml"], "xml"),
    ("rivulet-node", ["infer", "--dir", "{new}", "{data}"], "is not a node's folder"),
    ("rivulet-node", ["infer", "--dir", "{node}"], "FILE"),
    ("rivulet-node", ["infer", "--dir", "{node}", "{data}", "--fly"], "--fly"),
    ("rivulet-node", ["status", "--dir", "{new}"], "is not a node's folder"),
    ("rivulet-node", ["status", "--dir", "{node}", "--fly"], "--fly"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{empty}", "--format", "csv"], "is a folder"),
    ("rivulet-node", ["join", "-", "--dir", "{new}"], "standard input has no token"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{file}"], "say csv or idx"),
    ("rivulet-node", ["ingest", "--dir", "{node}", "{data}", "--label", "66"], "'66'"),
    ("rivulet-model", [], "rivulet-model --help"),
    ("rivulet-model", ["fly"], "fly"),
    ("rivulet-model", ["prepare", "{new}", "--out", "{empty}", "--fleet", "0" * 32], "{new}"),
    ("rivulet", [], "rivulet --help"),
    ("rivulet", ["fly"], "fly"),
    ("rivulet", ["status", "--fly"], "--fly"),
    ("rivulet", ["--dir", "{new}", "status"], "{new}"),
    ("rivulet", ["--admin", "nowhere", "status"], "nowhere"),
    ("rivulet", ["--dir", "{coordinator}", "token", "create", "--uses", "0"], "--uses"),
    ("rivulet", ["--dir", "{coordinator}", "token", "create", "--expires", "soon"], "--expires"),
    ("rivulet", ["--dir", "{coordinator}", "node", "revoke", "abc"], "abc"),
    ("rivulet", ["--dir", "{coordinator}", "round", "start", "--count", "none"], "--count"),
    ("rivulet", ["--dir", "{coordinator}", "model", "import", "{new}", "--release-key", "{release_key}"], "{new}"),
    ("rivulet", ["--dir", "{coordinator}", "model", "import", "{spec}", "--release-key", "{new}"], "{new}"),
    ("rivulet", ["--dir", "{coordinator}", "model", "export", "1", "--format", "tar", "--out", "{new}"], "npz"),
    ("rivulet", ["--dir", "{coordinator}", "trust", "renew", "--root-key", "{new}"], "{new}"),
    ("rivulet", ["--dir", "{coordinator}", "model", "show", "x"], "x not in range 1 to"),
    ("rivulet", ["--dir", "{coordinator}", "model", "import", "{spec}", "--release-key", "{release_key}", "--seed", "-1"],
     "-1 not in range 0 to"),
    ("rivulet-sim", [], "rivulet-sim --help"),
    ("rivulet", ["--dir", "{coordinator}", "model", "distill", "{spec}", "--data", "{data}", "--release-key",
                 "{release_key}"], "--teacher"),
    ("rivulet", ["--dir", "{coordinator}", "model", "distill", "{spec}", "--teacher", "1", "--release-key",
                 "{release_key}"], "--data"),
    ("rivulet", ["--dir", "{coordinator}", "model", "distill", "{new}", "--teacher", "1", "--data", "{data}",
                 "--release-key", "{release_key}"], "{new}"),
    ("rivulet", ["--dir", "{coordinator}", "model", "distill", "{spec}", "--teacher", "1", "--data", "{data}",
                 "--release-key", "{release_key}", "--soft-weight", "2"], "--soft-weight is 2"),
    ("rivulet", ["--dir", "{coordinator}", "model", "distill", "{spec}", "--teacher", "1", "--data", "{data}",
                 "--release-key", "{release_key}", "--temperature", "inf"], "--temperature is inf"),
    ("rivulet", ["--dir", "{coordinator}", "model", "prune", "1", "--fraction", "1.5", "--release-key", "{release_key}"],
     "--fraction is 1.5"),
    ("rivulet", ["--dir", "{coordinator}", "model", "prune", "none", "--release-key", "{release_key}"],
     "none not in range 1 to"),
    ("rivulet-model", ["distill", "{spec}", "--out", "{empty}", "--fleet", "0" * 32, "--teacher", "{empty}",
                       "--teacher-version", "1", "--data", "{data}"], "release.payload"),
    ("rivulet-sim", ["fly"], "'fly'"),
    ("rivulet-sim", ["run", "digits"], "--out"),
    ("rivulet-sim", ["run", "{new}", "--out", "{new}"], "{new}"),
    ("rivulet-sim", ["run", "digits", "--out", "{new}", "--seed", "x"], "x not in range 0 to"),
    ("rivulet-sim", ["run", "digits", "--out", "{new}", "--set", "training.learning_rate=nan"], "learning_rate"),
    ("rivulet-sim", ["run", "digits", "--out", "{new}", "--set", "nothing.at_all=1"], "nothing is not a key"),
]

# Commands to a coordinator that runs, and has a model.
WRONG_REQUESTS = [
    (FAILED, ["trust", "renew", "--root-key", "{release_key}"], "give that one"),
    (WRONG, ["trust", "renew", "--root-key", "{root_key}", "--expires", "0d"], "--expires"),
    (FAILED, ["model", "show", "99"], "99"),
    (WRONG, ["model", "export", "1", "--out", "{folder}/pipe"], "{folder}/pipe"),
    (WRONG, ["model", "export", "1", "--format", "safetensors", "--out", "{folder}/pipe"], "{folder}/pipe"),
    (FAILED, ["model", "export", "1", "--out", "{new}/model.npz"], "{new}/model.npz"),
    (FAILED, ["model", "import", "{empty}", "--release-key", "{release_key}"], "{empty}"),
    (FAILED, ["model", "import", "{folder}/huge", "--release-key", "{release_key}"], "3221225472 bytes"),
    (FAILED, ["model", "import", "{spec}", "--release-key", "{root_key}"], "no release key"),
    (FAILED, ["round", "status", "99"], "99"),
    (FAILED, ["model", "distill", "{spec}", "--teacher", "99", "--data", "{data}", "--release-key", "{release_key}"], "99"),
    (FAILED, ["model", "distill", "{spec}", "--teacher", "1", "--data", "{data}", "--release-key", "{root_key}"],
     "no release key"),
    (WRONG, ["model", "distill", "{spec}", "--teacher", "1", "--data", "{new}.csv", "--release-key", "{release_key}"],
     "No such file"),
    (WRONG, ["model", "distill", "{spec}", "--teacher", "1", "--data", "{spec}", "--release-key", "{release_key}"],
     "ends in .csv"),
    (WRONG, ["model", "distill", "{spec}", "--teacher", "1", "--data", "{data}", "--label", "colour", "--release-key",
             "{release_key}"], "colour"),
    (WRONG, ["model", "distill", "{spec}", "--teacher", "1", "--data", "{folder}/cut.csv.gz", "--label", "label",
             "--release-key", "{release_key}"], "ends early"),
    (FAILED, ["model", "prune", "99", "--release-key", "{release_key}"], "99"),
    (FAILED, ["model", "prune", "1", "--fraction", "0.01", "--release-key", "{release_key}"], "takes no unit"),
    (FAILED, ["node", "revoke", "12345678"], "12345678"),
]

# What is put into the specification of a model, and what the answer must name.
WRONG_SPECS = [
    ('hidden = [16]', 'hidden = [-1]', "model.hidden"),
    ('hidden = [16]', 'hidden = [100000, 100000]', "make it smaller"),
    ('hidden = [16]', 'hiden = [16]', "hiden"),
    ('scale = [16.0]', 'scale = [nan]', "input.scale"),
    ('shape = [64]', 'shape = [63]', "63"),
    ('"0", ', '', "'0' is none of the classes"),
    ('test.csv', 'nothing.csv', "nothing.csv"),
    ('test.csv', 'no-samples.csv', "there is no sample"),
    ('test.csv', 'few-columns.csv', "no column 'label'"),
    ('test.csv', 'wrong-label.csv', "'77' is none of the classes"),
    ('test.csv', 'cut.csv.gz', "ends early"),
]

# Files that a node cannot take, with the rest of the command.
WRONG_FILES = [("{folder}/cut.csv.gz", [], "ends early"),
               ("{folder}/cut-images-idx3-ubyte", ["--label", "{folder}/labels-idx1-ubyte"], "ends within"),
               ("{folder}/text.csv", ["--label", "1"], "no sample was in order"),
               ("{data}", ["--format", "idx"], "is not IDX")]

FAILING = [  # Correct commands that cannot be done now.
    ("rivulet", ["--dir", "{coordinator}", "status"], "no coordinator runs in"),
    ("rivulet", ["--dir", "{coordinator}", "--admin", NOBODY, "round", "start"], "no coordinator answers"),
    ("rivulet", ["--dir", "{coordinator}", "model", "import", "{spec}", "--release-key", "{release_key}"],
     "no coordinator runs in"),
    ("rivulet-node", ["join", "{token}", "--dir", "{new}"], "connect"),
    ("rivulet-node", ["infer", "--dir", "{node}", "{data}"], "model"),
]

# A line that is put into a configuration, and what the answer must name beside file and line.
WRONG_COORDINATOR_SETTINGS = [
    ("[round]", "cohrt = 3", "cohrt"),
    ("[round]", "cohort_min = 4000", "cohort_min"),
    ("[training]", 'epochs = "three"', "epochs"),
    ("[training]", "epochs = 200000", "epochs"),
    ("[validation]", 'mode = "sometimes"', "mode"),
    ("[limits]", "content_max_mib = 1000000", "content_max_mib"),
    ("[limits]", "heartbeat_s = = 1", ""),
]
WRONG_NODE_SETTINGS = [
    ("[buffer]", "byte_max = 3", "byte_max"),
    ("[api]", 'listen = "0.0.0.0:0"', "listen"),
    ("[model]", 'variant = "int4"', "variant"),
    ("[training]", "time_max = 5", "time_max"),
]


class UsageTest:
    def __init__(self, fleet):
        self.fleet = fleet
        self.checked = 0
        self.faults = []
        self.paths = {}

    def check(self, program, arguments, wanted, *words, environment=None, before=()):
        """One command: its status (None: either), one line on standard error with these words, no standard output."""
        command = [*before, self.fleet.programs / program, *[str(part).format(**self.paths) for part in arguments]]
        status, out, err = run_program(command, environment=environment, patience=60)
        self.checked += 1
        wrong = []
        if status not in ([FAILED, WRONG] if wanted is None else [wanted]):
            wrong.append(f"status {status} instead of {wanted}")
        if not one_line(err, program):
            wrong.append(f"{err.count(chr(10))} lines")
        wrong += [f"no '{word}'" for word in (word.format(**self.paths) for word in words) if word not in err]
        if out and "ingest" not in arguments:  # It tells what it stored before.
            wrong.append("something on standard output")
        if wrong:
            self.faults.append(f"{' '.join(map(str, command))}\n    {', '.join(wrong)}: {err!r} {out[:200]!r}")

    def run_daemon(self, name, wanted, *words, environment=None):
        self.check(f"rivulet-{name}", ["run", "--dir", f"{{{name}}}"], wanted, *words, environment=environment)

    # ---- Each kind of trouble

    def check_settings(self, name, file, changes):
        """A wrong setting is named with file, line and key."""
        original = file.read_text()
        for section, line, key in changes:
            lines = original.splitlines()
            at = lines.index(section) + 1
            same_key = line.split("=")[0].strip()
            lines = [other for other in lines if other.split("=")[0].strip() != same_key or "[" in other]
            lines.insert(at, line)
            file.write_text("\n".join(lines) + "\n")
            self.run_daemon(name, WRONG, f"{file}:{at + 1}", key)
        file.unlink()
        file.mkdir()  # Not even root can read it.
        self.run_daemon(name, FAILED, str(file))
        file.rmdir()
        file.write_text(original)

    def check_modes(self, name, folder, files):
        """A secret that others may read is not used."""
        for file in files:
            os.chmod(folder / file, 0o644)
            self.run_daemon(name, WRONG, f"{file}")
            os.chmod(folder / file, 0o600)
        kept = (folder / files[0]).read_bytes()
        (folder / files[0]).write_bytes(b"rubbish\n")
        self.run_daemon(name, FAILED, files[0])
        (folder / files[0]).unlink()
        self.run_daemon(name, FAILED, files[0])
        (folder / files[0]).write_bytes(kept)
        os.chmod(folder / files[0], 0o600)

    def check_daemons_in_use(self):
        """A second daemon has no business in a folder, and none at an address that is taken."""
        fleet, node = self.fleet, self.fleet.nodes[0]
        self.run_daemon("coordinator", FAILED, f"in use by another process ({fleet.coordinator.process.pid})")
        self.run_daemon("node", FAILED, f"in use by another process ({node.process.pid})")
        other = fleet.folder / "other"
        fleet.run("rivulet-coordinator", "init", "--dir", other, "--listen", fleet.coordinator.ready["listen"])
        self.check("rivulet-coordinator", ["run", "--dir", other], FAILED, fleet.coordinator.ready["listen"])

    def check_full_disk(self):
        """What a full disk does not take is told, and nothing half done is left."""
        full = {"RIVULET_FAULT_FS": "enospc_after=0"}
        self.check("rivulet-coordinator", ["init", "--dir", "{new}"], FAILED, "{new}", environment=full)
        assert not (self.fleet.folder / "new").exists()
        self.run_daemon("coordinator", FAILED, "{coordinator}", environment=full)
        self.run_daemon("node", FAILED, "{node}", environment=full)
        self.check("rivulet-node", ["ingest", "--dir", "{node}", "{data}", "--label", "label"], FAILED, "{node}", environment=full)
        self.run_daemon("node", WRONG, "RIVULET_FAULT_FS", environment={"RIVULET_FAULT_FS": "rain"})
        self.run_daemon("coordinator", WRONG, "RIVULET_CRASH_AT", environment={"RIVULET_CRASH_AT": "nowhere"})

    def write_wrong_files(self):
        """What goes wrong on the way to a program: cut off, of another form, of another system."""
        folder = self.fleet.folder
        data = (folder / "test.csv").read_text()
        lines = data.splitlines()
        (folder / "no-samples.csv").write_text(lines[0] + "\n")
        (folder / "few-columns.csv").write_text("".join(",".join(line.split(",")[:9]) + "\n" for line in lines[1:]))
        (folder / "wrong-label.csv").write_text("\n".join([*lines[:4], lines[4].rpartition(",")[0] + ",77"]) + "\n")
        packed = gzip.compress(data.encode())
        (folder / "cut.csv.gz").write_bytes(packed[:len(packed) // 2])
        (folder / "cut-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 10, 8, 8) + bytes(200))
        (folder / "labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 10) + bytes(range(10)))
        (folder / "text.csv").write_text("hello world\nthis,is,text\n")
        (folder / "windows.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines[:4]).encode() + b"\r\n")
        with open(folder / "huge", "wb") as huge:
            huge.truncate(3 << 30)
        os.mkfifo(folder / "pipe")

    def check_wrong_files(self):
        for file, more, word in WRONG_FILES:
            self.check("rivulet-node", ["ingest", "--dir", "{node}", file, *more], FAILED, word)
        ingested = self.fleet.run("rivulet-node", "ingest", "--dir", self.paths["node"], self.fleet.folder / "windows.csv",
                                  "--label", "label")
        assert "duplicate 3\n" in ingested, ingested  # The lines of test.csv, which it holds already.
        self.check("rivulet-node", ["ingest", "--dir", "{node}", "{folder}/no-samples.csv", "--label", "label"], FAILED,
                   "no-samples.csv: holds no sample")

    def check_requests(self):
        """What a running coordinator cannot do, and specifications that are wrong."""
        spec, sound = self.fleet.folder / "wrong.toml", (self.fleet.folder / "digits.toml").read_text()
        for old, new, word in WRONG_SPECS:
            assert old in sound, old
            spec.write_text(sound.replace(old, new))
            self.check("rivulet", ["--dir", "{coordinator}", "model", "import", spec, "--release-key", "{release_key}"],
                       WRONG, word)
        self.fleet.import_model()
        for wanted, arguments, word in WRONG_REQUESTS:
            self.check("rivulet", ["--dir", "{coordinator}", *arguments], wanted, word)
        self.check("rivulet", ["--dir", "{coordinator}", "--admin", "{nodes_at}", "status"], FAILED, "{nodes_at}")
        if not (self.fleet.folder / "pipe").is_fifo():
            self.faults.append("model export replaced a pipe, as it would a device")

    def check_permission(self):
        """A folder that may not be looked into is not mistaken for one that is not there."""
        # Without these two capabilities even root minds the mode of a folder.
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
        for name, program, commands in [("coordinator", "rivulet-coordinator", [["run"], ["init"]]),
                                        ("node", "rivulet-node", [["run"], ["status"], ["ingest", "{data}"],
                                                                  ["join", "{token}"]])]:
            folder = pathlib.Path(self.paths[name])
            folder.chmod(0)
            for command in commands:
                self.check(program, [*command, "--dir", folder], None, "{" + name + "}", "ermission denied", before=before)
            if name == "coordinator":
                self.check("rivulet", ["--dir", folder, "status"], None, "ermission denied", before=before)
            folder.chmod(0o700)

    def check_versions(self):
        """Each program says what it is, and all belong together."""
        for program in ["rivulet", "rivulet-coordinator", "rivulet-node", "rivulet-model", "rivulet-sim"]:
            done = subprocess.run([self.fleet.programs / program, "--version"], capture_output=True, text=True,
                                  timeout=60, check=False)
            self.checked += 1
            if done.returncode != 0 or not re.fullmatch(r"rivulet \d+\.\d+\.\d+\n", done.stdout) or done.stderr:
                self.faults.append(f"{program} --version: status {done.returncode}, {done.stdout!r}, {done.stderr!r}")

    def check_lost_output(self, program, arguments):
        """An answer that cannot be written is not a success."""
        with open("/dev/full", "w") as full:
            command = [self.fleet.programs / program, *[part.format(**self.paths) for part in arguments]]
            status, err = run_to(command, full)
        self.checked += 1
        if status != FAILED or not one_line(err, program):
            self.faults.append(f"{program} {arguments[0]} > /dev/full: status {status}, {err!r}")


def run_to(command, file):
    """@return the exit status and the standard error of a program that writes to `file`."""
    done = subprocess.run([str(part) for part in command], stdout=file, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False)
    return done.returncode, done.stderr


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    with Fleet(programs, nodes=1, settings={"round": {"cohort": 2}, "validation": {"evaluators": 2}}) as fleet:
        fleet.found()
        fleet.write_spec()
        (fleet.folder / "empty").mkdir()
        (fleet.folder / "file").write_text("rubbish\n")
        assert fleet.coordinator.start()
        token = fleet.token(uses=2)
        fleet.join(fleet.nodes[0], token)
        test = UsageTest(fleet)
        test.paths = {"coordinator": str(fleet.directory), "node": str(fleet.directory_of(fleet.nodes[0])),
                      "new": str(fleet.folder / "new"), "empty": str(fleet.folder / "empty"),
                      "file": str(fleet.folder / "file"), "data": str(fleet.folder / "test.csv"),
                      "spec": str(fleet.folder / "digits.toml"), "token": token,
                      "release_key": str(fleet.directory / "offline/release.key"),
                      "root_key": str(fleet.directory / "offline/root.key"), "folder": str(fleet.folder),
                      "nodes_at": fleet.coordinator.ready["listen"]}
        test.write_wrong_files()
        assert fleet.nodes[0].start()
        test.check_daemons_in_use()
        test.check_versions()
        lost = "{folder}/lost"
        for program, arguments in [("rivulet", ["--dir", "{coordinator}", "status", "--json"]),
                                   ("rivulet-sim", ["list"]),
                                   ("rivulet-coordinator", ["init", "--dir", lost, "--listen", "127.0.0.1:0",
                                                            "--admin", "127.0.0.1:0"]),
                                   ("rivulet-coordinator", ["run", "--dir", lost, "--log-level", "error"]),
                                   ("rivulet-node", ["status", "--dir", "{node}", "--json"]),
                                   ("rivulet-node", ["ingest", "--dir", "{node}", "{data}", "--label", "label"])]:
            test.check_lost_output(program, arguments)
        test.check_wrong_files()
        assert fleet.nodes[0].stop() == 0
        test.check_requests()
        assert fleet.coordinator.stop() == 0
        test.check_permission()

        for cases, wanted in [(WRONG_USAGE, WRONG), (FAILING, FAILED)]:
            for program, arguments, word in cases:
                test.check(program, arguments, wanted, word)
        new = fleet.folder / "new"
        kept = sorted(path.name for path in new.iterdir()) if new.exists() else []
        assert kept in ([], ["LOCK", "node.key"]), kept  # A join that nobody answered keeps its key for the next one.
        shutil.rmtree(new, ignore_errors=True)
        test.check_settings("coordinator", fleet.directory / "coordinator.toml", WRONG_COORDINATOR_SETTINGS)
        node_folder = fleet.directory_of(fleet.nodes[0])
        test.check_settings("node", node_folder / "node.toml", WRONG_NODE_SETTINGS)
        test.check_modes("coordinator", fleet.directory, ["coordinator.key", "admin.token"])
        test.check_modes("node", node_folder, ["node.key", "api.token"])
        test.check_full_disk()
        assert not test.faults, f"{len(test.faults)} of {test.checked} commands:\n" + "\n".join(test.faults)

        # After all of that both start as if nothing had been.
        assert fleet.coordinator.start() and fleet.nodes[0].start()
        print(f"{test.checked} commands answered in one line each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
