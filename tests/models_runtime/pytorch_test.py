"""Compares every built-in network with the same one built from torch.nn in plain Python PyTorch.

  pytorch_test.py WRITE_NETWORKS    status 77, which ctest takes for a skipped test, without PyTorch or NumPy

Values, gradients (as one step of descent), and the exported TorchScript files.
"""

import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError as missing:
    print(f"skipped: {missing}: install python3-torch and python3-numpy")
    sys.exit(77)

TOLERANCE = 1e-5
DEEP_STEP_TOLERANCE = 2e-3  # Of fifty norms, each over few numbers, float32 leaves the steps this much.
TEMPERATURE, SOFT_WEIGHT = 4, 0.7  # Of write_networks.


def mlp(sizes):
    layers = nn.ModuleDict({f"fc{i + 1}": nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)})

    def forward(x):
        x = x.flatten(1)
        for i in range(1, len(sizes) - 1):
            x = functional.relu(layers[f"fc{i}"](x))
        return layers[f"fc{len(sizes) - 1}"](x)
    return layers, forward


def cnn(convolutions, dense, kernel, pool, average=False):
    """convolutions: channels from the input's on; dense: sizes from the flattened ones to the outputs."""
    convolution, pooling = ((nn.Conv1d, functional.max_pool1d) if average else (nn.Conv2d, functional.max_pool2d))
    layers = nn.ModuleDict()
    for i in range(len(convolutions) - 1):
        layers[f"conv{i + 1}"] = convolution(convolutions[i], convolutions[i + 1], kernel, padding=kernel // 2)
    head, dense_forward = mlp(dense)
    for name, layer in head.items():
        layers[name] = layer

    def forward(x):
        for i in range(1, len(convolutions)):
            x = pooling(functional.relu(layers[f"conv{i}"](x)), pool)
        return dense_forward(x.mean(2) if average else x)
    return layers, forward


def mcmahan_cnn():
    return cnn([1, 32, 64], [64 * 7 * 7, 512, 3], 5, 2)


def gru():
    layers = nn.ModuleDict({"gru": nn.GRU(3, 4, batch_first=True), "fc": nn.Linear(4, 3)})

    def forward(x):
        _, last = layers["gru"](x.transpose(1, 2))
        return layers["fc"](last[0])
    return layers, forward


def autoencoder():
    sizes = [6, 4, 2, 4, 6]
    names = ["encoder1", "encoder2", "decoder1", "decoder2"]
    layers = nn.ModuleDict({name: nn.Linear(sizes[i], sizes[i + 1]) for i, name in enumerate(names)})

    def forward(x):
        code = layers["encoder2"](functional.relu(layers["encoder1"](x)))
        return layers["decoder2"](functional.relu(layers["decoder1"](code)))
    return layers, forward


def resnet18(first=4, groups=2):
    """He et al. 2016 as it is usually written for CIFAR, with GroupNorm."""
    layers = nn.ModuleDict({"conv": nn.Conv2d(3, first, 3, padding=1, bias=False), "norm": nn.GroupNorm(groups, first)})
    blocks, inputs = [], first
    for stage in range(4):
        outputs = first * 2 ** stage
        for block in range(2):
            name, stride = f"stage{stage + 1}_block{block + 1}", 2 if stage and not block else 1
            layers[name + "_conv1"] = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            layers[name + "_norm1"] = nn.GroupNorm(groups, outputs)
            layers[name + "_conv2"] = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            layers[name + "_norm2"] = nn.GroupNorm(groups, outputs)
            if stride != 1 or inputs != outputs:
                layers[name + "_project"] = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                layers[name + "_project_norm"] = nn.GroupNorm(groups, outputs)
            blocks.append(name)
            inputs = outputs
    layers["fc"] = nn.Linear(inputs, 3)

    def forward(x):
        x = functional.relu(layers["norm"](layers["conv"](x)))
        for name in blocks:
            y = functional.relu(layers[name + "_norm1"](layers[name + "_conv1"](x)))
            y = layers[name + "_norm2"](layers[name + "_conv2"](y))
            if name + "_project" in layers:
                x = layers[name + "_project_norm"](layers[name + "_project"](x))
            x = functional.relu(x + y)
        return layers["fc"](x.mean((2, 3)))
    return layers, forward


def mobilenet_v2(channels=(8, 8, 8, 8, 8, 16, 16, 32), last=1280, resolution=64):
    """Sandler et al. 2018, Table 2, at width 0.1."""
    layers = nn.ModuleDict()

    def add(name, inputs, outputs, kernel, stride=1, groups=1):
        layers[name] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        layers[name + "_norm"] = nn.BatchNorm2d(outputs)

    add("conv", 3, channels[0], 3, 2)
    table = zip((1, 6, 6, 6, 6, 6, 6), channels[1:], (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1))
    shapes, inputs = [], channels[0]
    for expansion, outputs, repeats, stride in table:
        for repeat in range(repeats):
            shapes.append((inputs, inputs * expansion, outputs, stride if repeat == 0 else 1))
            inputs = outputs
    for i, (inputs, inner, outputs, stride) in enumerate(shapes, 1):
        if inner != inputs:
            add(f"block{i}_expand", inputs, inner, 1)
        add(f"block{i}_depthwise", inner, inner, 3, stride, groups=inner)
        add(f"block{i}_project", inner, outputs, 1)
    add("last", channels[-1], last, 1)
    layers["fc"] = nn.Linear(last, 3)

    def run(name, x):
        return layers[name + "_norm"](layers[name](x))

    def forward(x):
        x = functional.interpolate(x, size=(resolution, resolution), mode="bilinear", align_corners=False)
        x = functional.relu6(run("conv", x))
        for i, (inputs, inner, outputs, stride) in enumerate(shapes, 1):
            y = functional.relu6(run(f"block{i}_expand", x)) if inner != inputs else x
            y = run(f"block{i}_project", functional.relu6(run(f"block{i}_depthwise", y)))
            x = x + y if stride == 1 and inputs == outputs else y
        return layers["fc"](functional.relu6(run("last", x)).mean((2, 3)))
    return layers, forward


# The sizes of tests/models_runtime/small_architectures.h.
NETWORKS = {
    "mlp": lambda: mlp([6, 5, 4, 3]),
    "mcmahan_cnn": mcmahan_cnn,
    "cnn": lambda: cnn([2, 3, 4], [4 * 2 * 1, 5, 3], 3, 2),
    "cnn1d": lambda: cnn([3, 4, 5], [5, 3], 3, 2, average=True),
    "gru": gru,
    "autoencoder": autoencoder,
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
}


def difference(a, b):
    a, b = numpy.asarray(a), numpy.asarray(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(numpy.abs(a - b).max())


def taught_step(kind, layers, forward, arrays):
    """How far from ours is a step that a teacher takes part in: Hinton, Vinyals and Dean 2015."""
    inputs, teacher = (torch.from_numpy(arrays["check." + name]) for name in ("inputs", "teacher"))
    answers = forward(inputs)
    if kind == "autoencoder":
        hard, soft = functional.mse_loss(answers, inputs), functional.mse_loss(answers, teacher)
    else:
        hard = functional.cross_entropy(answers, torch.from_numpy(arrays["check.labels"]).long())
        soft = TEMPERATURE ** 2 * functional.kl_div(functional.log_softmax(answers / TEMPERATURE, 1),
                                                    functional.softmax(teacher / TEMPERATURE, 1), reduction="batchmean")
    layers.zero_grad()
    (SOFT_WEIGHT * soft + (1 - SOFT_WEIGHT) * hard).backward()
    return max(difference(-tensor.grad, arrays["check.soft." + name]) for name, tensor in layers.named_parameters())


def check(folder, kind):
    arrays = numpy.load(folder / f"{kind}.npz")
    weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files if not name.startswith("check.")}
    layers, forward = NETWORKS[kind]()
    layers.load_state_dict(weights, strict=True)
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    inputs = torch.from_numpy(arrays["check.inputs"])
    layers.eval()
    served = forward(inputs).detach()
    worst = {"answers": difference(served, arrays["check.answers"])}

    layers.train()
    answers = forward(inputs)
    if kind == "autoencoder":
        functional.mse_loss(answers, inputs).backward()
    else:
        functional.cross_entropy(answers, torch.from_numpy(arrays["check.labels"]).long()).backward()
    worst["step"] = max(difference(-tensor.grad, arrays["check.delta." + name])
                        for name, tensor in layers.named_parameters())

    statistics = [name for name, _ in layers.named_buffers() if name in weights]
    if statistics:
        worst["statistics"] = max(difference(layers.state_dict()[name] - before[name], arrays["check.delta." + name])
                                  for name in statistics)

    worst["taught step"] = taught_step(kind, layers, forward, arrays)
    loaded = torch.jit.load(str(folder / f"{kind}.pt"))
    worst["file"] = difference(loaded(inputs).detach(), served)
    loaded.train()
    worst["file in training"] = difference(loaded(inputs).detach(), answers.detach())
    assert {name: tuple(tensor.shape) for name, tensor in loaded.state_dict().items()} == \
        {name: tuple(tensor.shape) for name, tensor in weights.items()}, "names or shapes in the file"
    assert {name for name, _ in loaded.named_parameters()} == {name for name, _ in layers.named_parameters()}
    print(f"{kind}: " + ", ".join(f"{what} {value:.1e}" for what, value in worst.items()))
    tolerances = {"step": DEEP_STEP_TOLERANCE, "taught step": DEEP_STEP_TOLERANCE} if statistics else {}
    bad = [what for what, value in worst.items() if not value <= tolerances.get(what, TOLERANCE)]
    if bad:
        print(f"{kind}: differs from PyTorch too much in: {', '.join(bad)}")
    return not bad


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([sys.argv[1], name], check=True)
        written = {path.stem for path in folder.glob("*.npz")}
        if written != set(NETWORKS):
            print(f"written are {sorted(written)}, but compared {sorted(NETWORKS)}")
            return 1
        return 0 if all([check(folder, kind) for kind in NETWORKS]) else 1


if __name__ == "__main__":
    sys.exit(main())
