"""A network that a user brings from Python: imported, trained by five nodes, quantized, served in float and in int8,
exported, and loaded in Python again with the same answers."""

import gzip
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import xml.etree.ElementTree

from fleet import Fleet, ROOT, arguments_of, run_program

ROUNDS = 5
NODES = 5
SAMPLES = 500  # Of a node.
SHARDS = 4     # A node's samples are of so many parts of the data sorted by class, about as many classes.
TEST_SAMPLES = 1000
HOLDOUT_SAMPLES = 600
SKIPPED = 77

SPEC = """\
name = "fashion"
[model]
architecture = "torchscript"
path = "m.pt"
[input]
shape = [1, 28, 28]
mean = [{mean}]
scale = [{scale}]
[task]
kind = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
[holdout]
path = "holdout-images-idx3-ubyte"
[test]
path = "test-images-idx3-ubyte"
[version]
snapshot = "fp32"
"""

SETTINGS = {
    "round": {"deadline_s": 120},
    "training": {"epochs": 2, "batch_size": 20, "learning_rate": 0.05},
    "validation": {"deadline_s": 60, "tolerance": 0.5},  # Early on, an average of shards is a gamble.
    "delta": {"codec": "int8"},
}


def read_idx(folder, part):
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = file.read()[16:]
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = file.read()[8:]
    return [(images[i * 784:(i + 1) * 784], labels[i]) for i in range(len(labels))]


def write_idx(folder, name, samples):
    (folder / f"{name}-images-idx3-ubyte").write_bytes(
        struct.pack(">IIII", 0x803, len(samples), 28, 28) + b"".join(image for image, _ in samples))
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(
        struct.pack(">II", 0x801, len(samples)) + bytes(label for _, label in samples))


def write_data(fleet, data):
    random.seed(11)
    train = sorted(random.sample(read_idx(data, "train"), NODES * SAMPLES), key=lambda sample: sample[1])
    length = SAMPLES // SHARDS
    shards = [train[i:i + length] for i in range(0, len(train), length)]
    random.shuffle(shards)
    for i, node in enumerate(fleet.nodes):
        write_idx(fleet.folder, node.name, sum(shards[i * SHARDS:(i + 1) * SHARDS], []))
    unseen = read_idx(data, "t10k")
    test = unseen[:TEST_SAMPLES]
    write_idx(fleet.folder, "test", test)
    write_idx(fleet.folder, "holdout", unseen[TEST_SAMPLES:TEST_SAMPLES + HOLDOUT_SAMPLES])
    pixels = [pixel for image, _ in test for pixel in image]  # Bytes are stored as they are, 0 to 255.
    mean = sum(pixels) / len(pixels)
    deviation = (sum((pixel - mean) ** 2 for pixel in pixels) / len(pixels)) ** 0.5
    some = test[:40]
    write_idx(fleet.folder, "some", some)
    numbers = [pixel for image, _ in some for pixel in image]
    (fleet.folder / "some.f32").write_bytes(struct.pack(f"<{len(numbers)}f", *numbers))
    (fleet.folder / "digits.toml").write_text(SPEC.format(mean=round(mean, 4), scale=round(deviation, 4)))


def serve_in_float(fleet, node):
    file = fleet.directory_of(node) / "node.toml"
    text = file.read_text()
    assert 'variant = "auto"' in text
    file.write_text(text.replace('variant = "auto"', 'variant = "fp32"'))


def check_int8(fleet, version, node, float_answers):
    """The variant that the coordinator published, and the node that chose it."""
    fp32, int8 = version["variants"]
    print(f"fp32: {fp32}")
    print(f"int8: {int8}")
    assert int8["kernels"] == "int8" and int8["accuracy"] >= fp32["accuracy"] - 0.02
    assert int8["bytes"] <= 0.30 * fp32["bytes"] and int8["microseconds"] > 0 and int8["activation_bytes"] > 0
    serving = fleet.node_status(node)["serving"]
    print(f"serving: {serving}")
    assert serving["variant"] == "int8" and serving["version"] == version["version"]
    [line] = [event for event in node.events("engine_chosen") if event["variant"] == "int8"][-1:]
    print(line["detail"])
    assert "int8-static" in line["detail"] and "fp32-optimized" in line["detail"]
    answers = fleet.run("rivulet-node", "infer", "--dir", fleet.directory_of(node),
                        fleet.folder / "some-images-idx3-ubyte")
    pairs = [(json.loads(one), json.loads(other)) for one, other in
             zip(answers.splitlines(), float_answers.splitlines(), strict=True)]
    assert all(one["variant"] == "int8" and other["variant"] == "fp32" for one, other in pairs)
    apart = max(abs(p - q) for one, other in pairs for p, q in zip(one["probabilities"], other["probabilities"]))
    same = sum(one["class"] == other["class"] for one, other in pairs)
    print(f"int8 and float: {same} of {len(pairs)} classes alike, probabilities {apart:.3f} apart")
    assert same >= 0.9 * len(pairs)


def check_profile(text, svg, version):
    profile = json.loads(text)
    assert profile["version"] == version and profile["machine"], profile
    for variant, kinds in (("fp32", ("fp32-script", "fp32-optimized")), ("int8", ("fp32-optimized", "int8-static"))):
        rows = [row for row in profile["engines"] if row["variant"] == variant]
        assert sum(row["taken"] for row in rows) == 1, rows
        for kind in kinds:
            [row] = [row for row in rows if row["engine"].startswith(kind) and not row["refusal"]][:1]
            latency = row["latency_us"]
            print(f"profile: {variant} by {row['engine']}: {latency}, {row['activation_bytes']} bytes of tensors")
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
            assert row["samples_per_second"] > 0 and row["activation_bytes"] > 784 and row["operators"]
    xml.etree.ElementTree.fromstring(svg.read_text())


def profile_everywhere(fleet, version, node):
    svg = fleet.folder / "operator.svg"
    check_profile(fleet.operate("model", "profile", str(version), "--json", "--svg", svg), svg, version)
    command = [fleet.programs / "rivulet-node", "profile", "--dir", fleet.directory_of(node)]
    status, _, words = run_program(command)
    assert status == 1 and "its daemon runs" in words, (status, words)
    assert node.stop() == 0
    svg = fleet.folder / "node.svg"
    check_profile(fleet.run("rivulet-node", "profile", "--dir", fleet.directory_of(node), "--json", "--svg", svg), svg,
                  version)


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    helper = ROOT / "tests/e2e/user_network.py"
    data = pathlib.Path(os.environ.get("RIVULET_DATA", "")) / "fashion_mnist"
    if subprocess.run([sys.executable, "-c", "import torch, numpy"], capture_output=True, check=False).returncode:
        print("skipped: this Python has no torch; install python3-torch")
        return SKIPPED
    if not (data / "train-images-idx3-ubyte.gz").exists():
        print("skipped: RIVULET_DATA names no folder with fashion_mnist")
        return SKIPPED
    with Fleet(programs, nodes=NODES, settings=SETTINGS) as fleet:
        fleet.run_python(helper, "write", fleet.folder / "m.pt")
        fleet.found()
        write_data(fleet, data)
        assert fleet.coordinator.start()
        fleet.import_model()
        token = fleet.token(uses=NODES)
        for node in fleet.nodes:
            fleet.join(node, token)
            if node is fleet.nodes[0]:
                serve_in_float(fleet, node)
            fleet.run("rivulet-node", "ingest", "--dir", fleet.directory_of(node),
                      fleet.folder / f"{node.name}-images-idx3-ubyte")
            assert node.start()
        fleet.wait_until_ready()
        fleet.run_rounds(ROUNDS)
        versions = fleet.versions()
        accuracies = [version["metrics"]["accuracy"] for version in versions]
        print("accuracy by version: " + " ".join(f"{accuracy:.3f}" for accuracy in accuracies))
        assert len(versions) == ROUNDS + 1, versions
        assert accuracies[-1] > accuracies[0] + 0.3, "it did not learn"

        newest = fleet.wait_until_served()
        answers = fleet.run("rivulet-node", "infer", "--dir", fleet.directory_of(fleet.nodes[0]),
                            fleet.folder / "some-images-idx3-ubyte")
        (fleet.folder / "answers.jsonl").write_text(answers)
        check_int8(fleet, versions[-1], fleet.nodes[1], answers)
        exports = fleet.folder / "exports"
        exports.mkdir()
        for form, name in (("torchscript", "model.pt"), ("npz", "model.npz"), ("safetensors", "model.safetensors")):
            fleet.operate("model", "export", str(newest), "--format", form, "--out", exports / name)
        print(fleet.run_python(helper, "compare", exports, fleet.folder / "some.f32", fleet.folder / "answers.jsonl"))
        profile_everywhere(fleet, newest, fleet.nodes[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
