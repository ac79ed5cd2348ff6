"""An ordinary small CNN of somebody who never heard of Rivulet, and what he does with it in Python.

    user_network.py write FILE                           scripts the network and saves it
    user_network.py compare FOLDER IMAGES ANSWERS         loads every export, and compares with a node's answers
"""
import json
import struct
import sys

import numpy
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.block = Block(8)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(8 * 7 * 7, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.stem(x))), 2)
        return self.fc(self.drop(torch.flatten(self.block(x), 1)))


def load_safetensors(path):
    """The format is so simple that this test needs no library for it."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32"
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = torch.from_numpy(numpy.frombuffer(data[begin:end], "<f4").copy()).reshape(entry["shape"])
    return tensors, metadata


def compare(folder, images_file, answers_file):
    images = numpy.fromfile(images_file, "<f4").reshape(-1, 1, 28, 28)
    with open(answers_file) as file:
        answers = numpy.array([json.loads(line)["probabilities"] for line in file])
    arrays = dict(numpy.load(f"{folder}/model.npz"))
    mean, scale = arrays.pop("preprocessing.mean"), arrays.pop("preprocessing.scale")
    classes = arrays.pop("classes").tolist()
    inputs = torch.from_numpy(((images - mean) / scale).astype(numpy.float32))

    tensors, metadata = load_safetensors(f"{folder}/model.safetensors")
    assert json.loads(metadata["preprocessing.scale"]) == scale.tolist(), metadata
    assert classes == [str(i) for i in range(10)] and json.loads(metadata["classes"]) == classes
    outputs = {}
    notes = {"rivulet.json": ""}
    loaded = torch.jit.load(f"{folder}/model.pt", _extra_files=notes)
    notes = json.loads(notes["rivulet.json"])
    assert notes["classes"] == classes and notes["task"] == "classification", notes
    assert numpy.allclose(notes["preprocessing"]["mean"], mean), notes
    loaded.eval()
    outputs["torchscript"] = loaded(inputs)
    for name, state in (("npz", {key: torch.from_numpy(value) for key, value in arrays.items()}),
                        ("safetensors", tensors)):
        network = Network()
        missing, unexpected = network.load_state_dict(state, strict=False)
        assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), (missing, unexpected)
        network.eval()
        outputs[name] = network(inputs)
    for name, output in outputs.items():
        apart = float((output - outputs["torchscript"]).abs().max())
        served = float(numpy.abs(torch.softmax(output.double(), 1).detach().numpy() - answers).max())
        print(f"{name}: {apart:.2e} from the TorchScript export, {served:.2e} from the node's answers")
        assert apart <= 1e-5 and served <= 1e-5

    # It trains on, as the user's own model does.
    loaded.train()
    loss = F.cross_entropy(loaded(inputs), torch.zeros(len(inputs), dtype=torch.int64))
    loss.backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    fresh = Network()
    for name, value in arrays.items():
        if name.endswith("running_var"):
            assert (value >= 0).all() and not numpy.allclose(value, 1), name
        if name.endswith("running_mean"):
            assert not numpy.allclose(value, dict(fresh.named_buffers())[name].numpy()), name


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "write":
        torch.manual_seed(3)
        torch.jit.script(Network()).save(sys.argv[2])
    else:
        compare(*sys.argv[2:])
