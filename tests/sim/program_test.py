"""Runs the real rivulet-sim, and recomputes with NumPy what it says.

  program_test.py PROGRAM    with RIVULET_TEST_LONG in the environment also the whole experiments
"""

import csv
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy

PROGRAM = sys.argv.pop(1)
LONG = bool(os.environ.get("RIVULET_TEST_LONG"))
DATA = pathlib.Path(os.environ.get("RIVULET_DATA", "../shared/data")).resolve()


def sim(*arguments, status=0, data=DATA):
    environment = {**os.environ, "RIVULET_DATA": str(data)}
    result = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert result.returncode == status, (arguments, result.returncode, result.stdout, result.stderr)
    return result


def accuracy_of(model, inputs, labels):
    """Of an mlp with ReLU, by the tensors' names alone."""
    x = (inputs - model["preprocessing.mean"]) / model["preprocessing.scale"]
    layers = sum(1 for name in model.files if name.endswith(".weight"))
    for layer in range(1, layers + 1):
        x = x @ model[f"fc{layer}.weight"].T + model[f"fc{layer}.bias"]
        if layer < layers:
            x = numpy.maximum(x, 0)
    return float(numpy.mean(numpy.argmax(x, axis=1) == labels))


def idx(path):
    with gzip.open(path) as file:
        raw = file.read()
    dimensions = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return numpy.frombuffer(raw, numpy.uint8, offset=4 + 4 * raw[3]).reshape(dimensions)


class Program(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def summary(self, name):
        return json.loads((self.out / name / "summary.json").read_text())

    def test_accuracy_is_what_numpy_finds(self):
        sim("run", "digits", "--out", self.out / "a", "--set", "round.count=5")
        with open(self.out / "a" / "test.csv") as file:
            rows = list(csv.reader(file))[1:]
        samples = numpy.array(rows, dtype=float)
        model = numpy.load(self.out / "a" / "model.npz")
        summary = self.summary("a")
        self.assertEqual(len(samples), summary["test_samples"])
        found = accuracy_of(model, samples[:, :-1], samples[:, -1])
        self.assertAlmostEqual(found, summary["final_accuracy"], delta=1e-6)
        self.assertGreater(found, 0.3)

    def test_same_seed_same_bytes(self):
        for name, threads in (("a", 1), ("b", 2), ("c", 2)):
            sim("run", "digits", "--out", self.out / name, "--set", "round.count=4", "--seed", 5, "--threads", threads)
        lines = (self.out / "a" / "rounds.jsonl").read_bytes()
        self.assertEqual(lines, (self.out / "b" / "rounds.jsonl").read_bytes())
        self.assertEqual(lines, (self.out / "c" / "rounds.jsonl").read_bytes())
        self.assertEqual((self.out / "a" / "model.npz").read_bytes(), (self.out / "b" / "model.npz").read_bytes())
        summaries = [self.summary(name) for name in "abc"]
        for summary in summaries:
            for key in ("wall_seconds", "client_rounds_per_second", "peak_memory_bytes"):
                self.assertGreater(summary.pop(key), 0)
        self.assertEqual(summaries[0], summaries[1])
        self.assertEqual(summaries[0], summaries[2])
        self.assertEqual(summaries[0]["seed"], 5)
        self.assertEqual(summaries[0]["rounds"], 4)

    def test_results_of_another_experiment_stay(self):
        five = ["run", "digits", "--out", self.out / "a", "--set", "round.count=1", "--seed", 5]
        six = [*five[:-1], 6]
        sim(*five)
        before = self.summary("a")
        self.assertIn("--force", sim(*six, status=2).stderr)
        self.assertEqual(self.summary("a"), before)
        sim(*five)  # The same one again.
        self.assertEqual(self.summary("a")["experiment"], before["experiment"])
        sim(*six, "--force")
        self.assertEqual(self.summary("a")["seed"], 6)
        (self.out / "a" / "summary.json").write_text("of something else")
        sim(*six, status=2)

    def test_own_file_with_csv(self):
        with open(self.out / "points.csv", "w") as file:
            file.write("x,y,who,kind\n")
            for i in range(400):
                kind = i % 2
                file.write(f"{kind + 0.1 * (i % 5)},{1 - kind},{'abcd'[i // 100]},{'no' if kind == 0 else 'yes'}\n")
        (self.out / "points.toml").write_text(
            '[data]\nsource = "csv"\npath = "points.csv"\nlabel = "kind"\npartition = "natural"\ncolumn = "who"\n'
            "[model]\nhidden = []\n[training]\nlearning_rate = 0.5\n[round]\ncount = 5\ncohort = 4\n")
        sim("run", self.out / "points.toml", "--out", self.out / "a")
        summary = self.summary("a")
        self.assertEqual(summary["nodes"], 4)
        self.assertEqual(summary["final_accuracy"], 1.0)

    def test_wrong_usage_is_one_line_and_status_2(self):
        cases = [
            [],
            ["run"],
            ["run", "digits"],
            ["run", "nothing-like-it", "--out", self.out / "a"],
            ["run", "digits", "--out", self.out / "a", "--set", "round.cohort=none"],
            ["run", "digits", "--out", self.out / "a", "--set", "cohort"],
            ["run", "digits", "--out", self.out / "a", "--set", "round.cohort_min=11"],
            ["run", "digits", "--out", self.out / "a", "--seed", "-1"],
            ["run", "digits", "--out", self.out / "a", "--threads", "0"],
            ["run", "digits", "--out", self.out / "a", "--set", "fleet.nodes=100000"],
            ["run", "digits", "--out", self.out / "a", "--set", "model.architecture=mcmahan_cnn", "--set", "model.hidden=[]"],
            ["dance"],
        ]
        for case in cases:
            with self.subTest(case=case):
                result = sim(*case, status=2)
                self.assertEqual(result.stdout, "")
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
                self.assertTrue(result.stderr.startswith("rivulet-sim: "), result.stderr)

    def test_a_folder_that_cannot_be_made_is_status_1(self):
        (self.out / "file").write_text("")
        result = sim("run", "digits", "--out", self.out / "file" / "a", status=1)
        self.assertEqual(result.stderr.count("\n"), 1)

    def test_list(self):
        names = [line.split()[0] for line in sim("list").stdout.splitlines()]
        self.assertEqual(names, ["digits", "digits-int8", "mnist-shards"])

    @unittest.skipUnless(LONG, "RIVULET_TEST_LONG is not set")
    def test_int8_versions_keep_up(self):
        accuracy = {"fp32": [], "int8": []}
        down = {"fp32": 0, "int8": 0}
        for seed in (1, 2, 3):
            for form in accuracy:
                name = f"{form}-{seed}"
                sim("run", "digits-int8", "--out", self.out / name, "--seed", seed, "--set", f"version.snapshot={form}")
                accuracy[form].append(self.summary(name)["final_accuracy"])
                down[form] += self.summary(name)["download_bytes"]
        means = {form: sum(values) / 3 for form, values in accuracy.items()}
        ratio = down["int8"] / down["fp32"]
        print(f"\ndigits, 100 rounds, 3 seeds: fp32 {means['fp32']:.4f} {accuracy['fp32']}, int8 {means['int8']:.4f} "
              f"{accuracy['int8']}, download ratio {ratio:.4f}")
        self.assertLessEqual(abs(means["fp32"] - means["int8"]), 0.01)
        self.assertLessEqual(ratio, 0.3)

    @unittest.skipUnless((DATA / "mnist").is_dir(), "skipped: no mnist/ in RIVULET_DATA")
    def test_mnist_in_shards(self):
        count = 60 if LONG else 3
        sim("run", "mnist-shards", "--out", self.out / "a", "--set", f"round.count={count}")
        summary = self.summary("a")
        images = idx(DATA / "mnist" / "t10k-images-idx3-ubyte.gz").reshape(-1, 784) / 255.0
        labels = idx(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz")
        model = numpy.load(self.out / "a" / "model.npz")
        self.assertAlmostEqual(accuracy_of(model, images, labels), summary["final_accuracy"], delta=1e-6)
        print(f"\nMNIST, 20 nodes, two shards each, {count} rounds: {summary['final_accuracy']:.4f}, "
              f"best {summary['best_accuracy']:.4f}, {summary['wall_seconds']:.1f} s, "
              f"{summary['peak_memory_bytes'] / 2**20:.0f} MiB")
        self.assertGreaterEqual(summary["final_accuracy"], 0.95 if LONG else 0.3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
