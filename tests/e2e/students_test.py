"""Smaller networks of a fleet's model: a student of half the size, distilled with and without labels, and a version
pruned by half. Each is a release of its own that names its teacher, goes on in rounds, and is exported in its shapes."""

import csv
import hashlib
import json
import re
import sys
import zipfile

from fleet import Fleet, arguments_of, one_line, run_program

HIDDEN, STUDENT, PRUNED = 32, 15, 16  # Units; the fleet's model has 2,410 parameters, and its student 1,135.
PARAMETERS = {units: units * (64 + 1) + 10 * (units + 1) for units in (HIDDEN, STUDENT, PRUNED)}
FAILED, WRONG = 1, 2


def shapes_of(file):
    """The shapes of a .npz file's arrays, by name: of NumPy's header this needs no more."""
    with zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy"): tuple(int(size) for size in re.findall(
            r"\d+", re.search(rb"'shape': \(([^)]*)\)", archive.read(name)).group(1).decode()))
            for name in archive.namelist()}


class StudentsTest:
    def __init__(self, fleet):
        self.fleet = fleet
        self.key = ["--release-key", fleet.directory / "offline/release.key"]
        self.spec = fleet.folder / "student.toml"
        self.data = fleet.folder / "node-1.csv"

    def write_files(self):
        self.spec.write_text(self.fleet.spec.replace(f"hidden = [{HIDDEN}]", f"hidden = [{STUDENT}]"))
        with open(self.data) as file:
            rows = [row[:-1] for row in csv.reader(file)]
        with open(self.fleet.folder / "unlabelled.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    def newest(self):
        return self.fleet.versions()[-1]

    def distil(self, teacher, *more):
        return self.fleet.ask("model", "distill", self.spec, "--teacher", str(teacher), "--epochs", "40",
                              "--learning-rate", "0.005", *self.key, *more)

    def check_link(self, made, teacher):
        """The newest version is the one that was made, and everything that tells of it names the teacher."""
        newest = self.newest()
        link = {"release": teacher["release"], "version": teacher["version"]}
        assert newest["version"] == made["version"] and newest["release"] == made["release"], (newest, made)
        assert newest["teacher"] == made["teacher"] == link, (newest, made)
        assert newest["metrics"]["accuracy"] is not None, "nobody scored it"
        assert self.fleet.ask("model", "show", str(made["version"]))["teacher"] == link
        imported = [json.loads(line) for line in self.fleet.audit() if "release_imported" in line]
        assert imported[-1]["teacher"] == link and "teacher" not in imported[0], imported
        assert imported[-1]["test"] == imported[0]["test"], "other samples than the first release's"
        return newest

    def check_round(self, made):
        """A round trains it on, and its export has the shapes of `hidden` units."""
        self.fleet.run_rounds()
        newest = self.newest()
        assert newest["release"] == made["release"] and newest["parent"] == made["version"], newest
        assert newest["teacher"] == made["teacher"], newest
        return newest

    def check_shapes(self, version, hidden):
        out = self.fleet.folder / f"{version}.npz"
        self.fleet.operate("model", "export", str(version), "--format", "npz", "--out", out)
        shapes = shapes_of(out)
        assert shapes["fc1.weight"] == (hidden, 64) and shapes["fc1.bias"] == (hidden,), shapes
        assert shapes["fc2.weight"] == (10, hidden) and shapes["fc2.bias"] == (10,), shapes

    def check_refused(self, status, word, *arguments):
        command = [self.fleet.programs / "rivulet", "--dir", self.fleet.directory, "model", *arguments, *self.key]
        got, out, err = run_program(command)
        assert (got, out) == (status, "") and one_line(err, "rivulet") and word in err, (arguments, got, err)

    def check_wrong(self, newest):
        """What cannot be done is told in a line, and leaves everything as it was."""
        other = self.fleet.folder / "other.toml"
        distil = ["distill", self.spec, "--teacher", str(newest), "--data", self.data]
        self.check_refused(FAILED, "99", "distill", self.spec, "--teacher", "99", "--data", self.data)
        self.check_refused(WRONG, "nothing.csv", "distill", self.spec, "--teacher", str(newest), "--data", "nothing.csv")
        self.check_refused(WRONG, "--label", *distil)  # The labels' column is taken for an input.
        self.check_refused(WRONG, "colour", *distil, "--label", "colour")
        self.check_refused(WRONG, "--temperature is 0", *distil, "--temperature", "0")
        self.check_refused(WRONG, "--soft-weight is 1.5", *distil, "--soft-weight", "1.5")
        self.check_refused(WRONG, "--learning-rate is nan", *distil, "--learning-rate", "nan")
        self.check_refused(FAILED, "--learning-rate", *distil, "--label", "label", "--learning-rate", "1e38")
        for old, new, word in [('"8", "9"', '"9", "8"', "task.classes"), ('name = "digits"', 'name = "letters"', "name"),
                               ("shape = [64]", "shape = [65]", "input.shape")]:
            other.write_text(self.spec.read_text().replace(old, new))
            self.check_refused(WRONG, word, "distill", other, "--teacher", str(newest), "--data", self.data, "--label",
                               "label")
        self.check_refused(FAILED, "99", "prune", "99")
        self.check_refused(WRONG, "--fraction is 1", "prune", str(newest), "--fraction", "1")
        self.check_refused(FAILED, "takes no unit", "prune", str(newest), "--fraction", "0.01")
        assert self.newest()["version"] == newest


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    settings = {"validation": {"tolerance": 0.3}, "training": {"epochs": 5, "learning_rate": 0.1}}
    with Fleet(programs, nodes=2, settings=settings, hidden=HIDDEN) as fleet:
        fleet.start_all()
        test = StudentsTest(fleet)
        test.write_files()
        fleet.run_rounds(2)
        teacher = test.newest()
        assert teacher["teacher"] is None
        before = hashlib.sha256(test.data.read_bytes()).digest()

        made = test.distil(teacher["version"], "--data", test.data, "--label", "label", "--holdout",
                           fleet.folder / "test.csv")
        report = made["distillation"]
        print(json.dumps(report))
        assert report["measure"] == "accuracy" and report["held_out"] == 300, report
        assert (report["teacher_parameters"], report["student_parameters"]) == (PARAMETERS[HIDDEN], PARAMETERS[STUDENT])
        assert report["student_parameters"] <= report["teacher_parameters"] / 2
        assert report["ratio"] >= 0.95, "the student did not learn"
        student = test.check_link(made, teacher)
        assert abs(student["metrics"]["accuracy"] - report["student"]) <= 0.02, student  # Int8 snapshots round.
        trained = test.check_round(student)
        test.check_shapes(trained["version"], STUDENT)

        # The teacher is no longer the fleet's model, but its version is there to learn from.
        made = test.distil(teacher["version"], "--data", fleet.folder / "unlabelled.csv", "--seed", "2")
        print(json.dumps(made["distillation"]))
        assert made["distillation"]["measure"] == "agreement" and made["distillation"]["ratio"] >= 0.85, made
        test.check_link(made, teacher)

        made = fleet.ask("model", "prune", str(teacher["version"]), "--fraction", "0.5", *test.key)
        print(json.dumps(made["pruning"]))
        sizes = {key: made["pruning"][key] for key in ("teacher_parameters", "parameters")}
        assert sizes == {"teacher_parameters": PARAMETERS[HIDDEN], "parameters": PARAMETERS[PRUNED]}, made
        assert 0 < made["pruning"]["max_distance"] < made["pruning"]["teacher_max_distance"], made
        pruned = test.check_link(made, teacher)
        test.check_shapes(made["version"], PRUNED)
        tuned = test.check_round(pruned)
        test.check_shapes(tuned["version"], PRUNED)
        print(f"accuracy: teacher {teacher['metrics']['accuracy']:.3f}, student {student['metrics']['accuracy']:.3f}, "
              f"pruned {pruned['metrics']['accuracy']:.3f}, after a round {tuned['metrics']['accuracy']:.3f}")
        assert tuned["metrics"]["accuracy"] > pruned["metrics"]["accuracy"], "it did not recover"
        fleet.wait_until_served()
        test.check_wrong(tuned["version"])
        assert hashlib.sha256(test.data.read_bytes()).digest() == before
    return 0


if __name__ == "__main__":
    sys.exit(main())
