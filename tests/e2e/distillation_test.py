"""Half the parameters keep 97 % of the accuracy, on MNIST: a fleet trains the teacher, `rivulet model distill` a student
of it, and `rivulet model prune` takes half of its units, which two rounds then tune. Needs RIVULET_DATA, a folder with
mnist/ as it is published."""

import json
import os
import pathlib
import random
import sys

from fleet import Fleet, arguments_of
from user_model_test import SKIPPED, read_idx, write_idx

ROUNDS = 5
NODES = 2
TUNING = 2  # Rounds of the pruned network.
SAMPLES = 30000  # Of a node.
BAR = 0.97
TEACHER, STUDENT = "200, 200", "110, 100"  # 199,210 and 98,460 parameters.

SPEC = """\
name = "mnist"
[model]
architecture = "mlp"
hidden = [{hidden}]
[input]
shape = [784]
mean = [33.3]   # Of bytes.
scale = [78.6]
[task]
kind = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
[test]
path = "{data}/t10k-images-idx3-ubyte.gz"
"""

SETTINGS = {
    "round": {"deadline_s": 120},
    "training": {"epochs": 2, "batch_size": 20, "learning_rate": 0.05},
    "validation": {"deadline_s": 60},
}


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    data = pathlib.Path(os.environ.get("RIVULET_DATA", "")) / "mnist"
    if not (data / "train-images-idx3-ubyte.gz").exists():
        print("skipped: RIVULET_DATA names no folder with mnist")
        return SKIPPED
    with Fleet(programs, nodes=NODES, settings=SETTINGS) as fleet:
        fleet.found()
        (fleet.folder / "digits.toml").write_text(SPEC.format(hidden=TEACHER, data=data))
        (fleet.folder / "student.toml").write_text(SPEC.format(hidden=STUDENT, data=data))
        random.seed(7)
        samples = random.sample(read_idx(data, "train"), NODES * SAMPLES)
        assert fleet.coordinator.start()
        fleet.import_model()
        token = fleet.token(uses=NODES)
        for i, node in enumerate(fleet.nodes):
            write_idx(fleet.folder, node.name, samples[i::NODES])
            fleet.join(node, token)
            fleet.run("rivulet-node", "ingest", "--dir", fleet.directory_of(node),
                      fleet.folder / f"{node.name}-images-idx3-ubyte")
            assert node.start()
        fleet.wait_until_ready()
        fleet.operate("round", "start", "--count", str(ROUNDS), "--wait", patience=600)
        teacher = fleet.versions()[-1]
        key = ["--release-key", fleet.directory / "offline/release.key"]
        made = json.loads(fleet.operate(
            "model", "distill", fleet.folder / "student.toml", "--teacher", str(teacher["version"]),
            "--data", data / "train-images-idx3-ubyte.gz", "--holdout", data / "t10k-images-idx3-ubyte.gz",
            *key, "--json", patience=900))
        report = made["distillation"]
        print(json.dumps(report))
        assert report["held_out"] == 10000 and report["teacher"] > 0.95, report
        assert report["student_parameters"] <= report["teacher_parameters"] / 2, report
        assert report["ratio"] >= BAR, f"the student has less than {BAR} of its teacher's accuracy"

        pruned = fleet.ask("model", "prune", str(teacher["version"]), "--fraction", "0.5", *key)["pruning"]
        fleet.operate("round", "start", "--count", str(TUNING), "--wait", patience=600)
        before, tuned = fleet.versions()[-1 - TUNING], fleet.versions()[-1]
        told = [version["metrics"]["accuracy"] for version in (teacher, before, tuned)]
        print(json.dumps({**pruned, "teacher": told[0], "pruned": told[1], "tuned": told[2], "ratio": told[2] / told[0]}))
        assert pruned["parameters"] <= pruned["teacher_parameters"] / 2, pruned
        assert told[2] >= BAR * told[0], f"the pruned network has less than {BAR} of its teacher's accuracy"
    return 0


if __name__ == "__main__":
    sys.exit(main())
