#!/usr/bin/env python3
"""Writes TorchScript files with PyTorch, as users do: write_torchscript.py FOLDER.

Beside the good ones (their first outputs in NAME.inputs.f32 and NAME.outputs.f32) each file is one that an
import has to refuse for one reason, or that a mutation starts from.
"""
import os
import sys
import zipfile
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

IMAGE = (1, 12, 12)
CLASSES = 5


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


class Residual(nn.Module):
    """An ordinary small CNN: batch norm, dropout, a residual connection."""

    def __init__(self, dropout=0.3):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.block = Block(6)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(6 * 3 * 3, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.stem(x))), 2)
        x = F.max_pool2d(self.block(x), 2)
        return self.fc(self.drop(torch.flatten(x, 1)))


class Sequence(nn.Module):
    """A loop over time, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(12, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = x.reshape(x.size(0), 12, 12)
        h = torch.zeros(x.size(0), 12)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.head(h)


class Recurrent(nn.Module):
    """Its layer computes with a list that holds the parameters a second time."""

    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(12, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        y, _ = self.layer(x.squeeze(1))
        return self.head(y.mean(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 1)
        self.register_buffer("places", torch.rand(12, 12))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.head(self.encoder(x.squeeze(1) + self.places).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(144, 144)
        self.again = self.first
        self.head = nn.Linear(144, CLASSES)
        self.head.bias.requires_grad_(False)

    def forward(self, x):
        return self.head(torch.tanh(self.again(torch.tanh(self.first(torch.flatten(x, 1))))))


class Listing(nn.Module):
    """Loops over lists that nothing changes, and over numbers that follow from sizes."""

    def __init__(self):
        super().__init__()
        self.rows = [1, 3]
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = x.squeeze(1)
        kept = []
        for part in x.unbind(1):
            kept.append(part)
        total = torch.zeros(x.size(0), 12)
        for part in kept:
            total = total + part
        for shifted in [torch.roll(part, 1, [1]) for part in kept][1:]:
            total = total + shifted
        for row in self.rows:
            for i in range(row):
                total = total + x[:, i]
        for i in range((x.size(1) // 2 + 10) % 5):
            total = total + x[:, i]
        sizes = [x.size(1), x.size(2)]
        for size in sizes + [2]:
            total = total * (1.0 / size)
        return self.head(total)


class Sizes(nn.Module):
    """Loops over the sizes of tensors that layers, other loops and sizes made."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(12, 12, 3, stride=2, padding=1)
        self.cell = nn.GRUCell(12, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = x.reshape(x.size(0), -1, 12)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        h = torch.zeros(x.size(0), 12)
        seen = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            seen.append(h)
        y = torch.stack(seen, 1)
        total = torch.zeros_like(h)
        for t in range(y.size(1)):
            total = total + y[:, t]
        for part in seen:
            for i in range(part.size(1)):
                total = total + part[:, i:i + 1]
        for i in range(torch.cat([h, total], 1).size(1) // 2):
            total = total + h[:, i:i + 1]
        return self.head(total / 100)


class Linear(nn.Module):
    """The base of the bad ones."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(144, CLASSES)

    def forward(self, x):
        return self.fc(torch.flatten(x, 1))


class Weightless(nn.Module):
    def forward(self, x):
        return torch.flatten(x, 1)[:, :5]


class Integers(Linear):
    def __init__(self):
        super().__init__()
        self.counts = nn.Parameter(torch.ones(5, dtype=torch.int64), requires_grad=False)

    def forward(self, x):
        return self.fc(torch.flatten(x, 1)) * self.counts


class Pair(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        return y, y


class TwoInputs(Linear):
    def forward(self, x, y):
        return self.fc(torch.flatten(x + y, 1))


class Flat(Linear):
    def forward(self, x):
        return self.fc(torch.flatten(x, 1)).sum(1)


class Classes(Linear):
    def forward(self, x):
        return self.fc(torch.flatten(x, 1)).argmax(1, keepdim=True).expand(-1, 5)


class FixedBatch(Linear):
    def forward(self, x):
        return self.fc(x.reshape(4, 144))


class Detached(Linear):
    def forward(self, x):
        return self.fc(torch.flatten(x, 1)).detach()


class Endless(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        while bool(torch.isfinite(y).all()):
            y = y + 1.0
        return y


class Long(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        for _ in range(1 << 40):
            y = y + 1.0
        return y


class Remainder(Linear):
    """Minus one, and a billion: 999,999,999 turns."""

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range((x.size(0) - 1 - x.size(0)) % 1000000000):
                y = y + 1.0
        return y


class Fraction(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range(int(x.size(0) // 1e-12)):
                y = y + 1.0
        return y


class SetEntry(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        turns = [1]
        if bool(y.sum() > 1e9):
            turns[0] = 1 << 40
        for _ in range(turns[0]):
            y = y + 0.0
        return y


class SetSize(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        sizes = x.size()
        other = sizes
        if bool(y.sum() > 1e9):
            other.insert(0, 1 << 40)
        for _ in range(sizes[0]):
            y = y + 0.0
        return y


class SetAttribute(Linear):
    def __init__(self):
        super().__init__()
        self.turns = [1]

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            self.turns.append(1 << 40)
        for _ in range(self.turns[-1]):
            y = y + 0.0
        return y


class Nested(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        turns = [[1], [2]]
        if bool(y.sum() > 1e9):
            turns[0][0] = 1 << 40
        for _ in range(turns[0][0]):
            y = y + 0.0
        return y


class Doubling(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        items = [1]
        if bool(y.sum() > 1e9):
            for _ in range(30):
                items = items + items
        for _ in range(len(items)):
            y = y + 0.0
        return y


class Extending(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        items = [1]
        if bool(y.sum() > 1e9):
            for _ in range(30):
                items.extend(items)
        for _ in range(len(items)):
            y = y + 0.0
        return y


class Growing(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        items = [1]
        if bool(y.sum() > 1e9):
            for _ in range(4096):
                for _ in range(4096):
                    items.append(1)
        for _ in range(len(items)):
            y = y + 0.0
        return y


class Chasing(Linear):
    """Each turn of the inner loop makes the next of the outer one longer."""

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        items = [1]
        if bool(y.sum() > 1e9):
            for _ in range(50):
                for _ in range(len(items)):
                    items.append(1)
        return y * len(items)


class Text(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        text = "a"
        if bool(y.sum() > 1e9):
            for _ in range(30):
                text = text + text
        for _ in range(len(text)):
            y = y + 0.0
        return y


class Writes(Linear):
    def forward(self, x):
        torch.save(x, "WRITTEN")
        return self.fc(torch.flatten(x, 1))


class WritesUnreached(Linear):
    @torch.jit.export
    def other(self, x):
        torch.save(x, "WRITTEN")
        return x


class Reads(Linear):
    def forward(self, x):
        secret = torch.from_file("/etc/hostname", False, 1)
        return self.fc(torch.flatten(x, 1)) + secret


class Prints(Linear):
    def forward(self, x):
        print(x)
        return self.fc(torch.flatten(x, 1))


class Memory(Linear):
    def forward(self, x):
        return self.fc(torch.flatten(x, 1)) + torch.empty(5)


class Forks(Linear):
    def forward(self, x):
        future = torch.jit.fork(self.fc, torch.flatten(x, 1))
        return torch.jit.wait(future)


class AtLoad(Linear):
    @torch.jit.export
    def __getstate__(self):
        return self.fc.weight

    @torch.jit.export
    def __setstate__(self, state: torch.Tensor):
        torch.save(state, "WRITTEN")
        self.training = False


class Overwrites(nn.Module):
    """While it is loaded it maps a file and fills it with zeros."""

    def __init__(self, victim):
        super().__init__()
        self.victim = victim
        self.mapped = torch.zeros(16)

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return (self.mapped, self.victim, self.training)

    @torch.jit.export
    def __setstate__(self, state: Tuple[torch.Tensor, str, bool]):
        self.training = state[2]
        self.victim = state[1]
        self.mapped = torch.from_file(state[1], True, 16)
        self.mapped.fill_(0.0)


class Overwriting(Linear):
    def __init__(self, victim):
        super().__init__()
        self.inner = Overwrites(victim)

    def forward(self, x):
        return self.fc(torch.flatten(self.inner(x), 1))


class LongNamed(Overwrites):
    """The part of the file with its code has a name of over 600 bytes."""


LongNamed.__module__ = "a" * 600


class OverwritingLong(Linear):
    def __init__(self, victim):
        super().__init__()
        self.inner = LongNamed(victim)

    def forward(self, x):
        return self.fc(torch.flatten(self.inner(x), 1))


@torch.jit.script
class Thing:
    def __init__(self):
        self.w = torch.zeros(16)


@torch.jit.script
class Reader:
    """Its code is reached by no module's."""

    def __init__(self):
        self.w = torch.zeros(16)

    def read(self):
        return torch.from_file("/etc/hostname", False, 1)


class InList(Linear):
    things: List[Thing]

    def __init__(self):
        super().__init__()
        self.things = [Thing()]


class InTuple(Linear):
    things: Tuple[int, Optional[Thing]]

    def __init__(self):
        super().__init__()
        self.things = (1, None)


class Unreached(Linear):
    readers: List[Reader]

    def __init__(self):
        super().__init__()
        self.readers = [Reader()]


class Local(Linear):
    def forward(self, x):
        things: List[Thing] = []
        y = self.fc(torch.flatten(x, 1))
        for thing in things:
            y = y + thing.w[0]
        return y


class MadeUp(Linear):
    """A size that no memory stands behind; as with those below, the trial never takes the branch."""

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range(torch.zeros(1).expand([1 << 60]).size(0)):
                y = y + 0.0
        return y


class MadeUpEmpty(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range(torch.zeros([1 << 60, 0]).size(0)):
                y = y + 0.0
        return y


class MadeUpView(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range(x[:, :, :, :0].reshape([1 << 60, 0]).size(0)):
                y = y + 0.0
        return y


class MadeUpFlat(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            wide = torch.zeros(1, 1, 1, 1).expand(1000, 1000, 1000, 0)
            for _ in range(wide.flatten(0, 2).size(0)):
                y = y + 0.0
        return y


class MadeUpLength(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range(len(torch.ones(1).expand([1 << 60]))):
                y = y + 0.0
        return y


class MadeUpRepeat(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            z = x[:, :, :, :0].repeat(1000, 1, 1, 1).repeat(1000, 1, 1, 1).repeat(1000, 1, 1, 1)
            for _ in range(z.size(0)):
                y = y + 0.0
        return y


class MadeUpInPlace(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        z = y + 0.0
        if bool(y.sum() > 1e9):
            z.as_strided_([1 << 60], [0])
        for _ in range(z.size(0)):
            y = y + 0.0
        return y


class MadeUpOut(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        z = y + 0.0
        if bool(y.sum() > 1e9):
            torch.zeros([1 << 60, 0], out=z)
        for _ in range(z.size(0)):
            y = y + 0.0
        return y


class MadeUpInTurns(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        z = x[:, :, :, :0]
        if bool(y.sum() > 1e9):
            for _ in range(60):
                z = torch.cat([z, z])
        for _ in range(z.size(0)):
            y = y + 0.0
        return y


class MadeUpState(Linear):
    def __init__(self):
        super().__init__()
        self.register_buffer("wide", torch.zeros(1))

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            self.wide = self.wide.expand([1 << 60])
        for _ in range(self.wide.size(0)):
            y = y + 0.0
        return y


class Random(Linear):
    def forward(self, x):
        return self.fc(torch.flatten(x, 1)) + torch.rand(5)


class Counting(Linear):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        self.calls.add_(1)
        return self.fc(torch.flatten(x, 1))


class Narrow(nn.Module):
    """Takes four samples at most while it trains."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(144)
        self.fc = nn.Linear(144, CLASSES)

    def forward(self, x):
        assert x.size(0) <= 4 or not self.bn.training
        return self.fc(self.bn(torch.flatten(x, 1)))


class Tokens(nn.Module):
    """Dense layers on the last of three and of four dimensions, as many as of the second."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(12, 12)
        self.mix = nn.Linear(12, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = x.squeeze(1)
        x = F.relu(self.embed(x))
        x = x.unsqueeze(2).expand(-1, -1, 2, -1)
        return self.head(F.relu(self.mix(x)).mean(2).mean(1))


def with_momentum(momentum):
    model = Residual(dropout=0.0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = momentum
    for _ in range(3):
        model(torch.rand(8, *IMAGE))
    return model


class Infinite(Linear):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.fc.bias[2] = float("inf")


def rewrite(source, target, change):
    """Copies an archive with change(name, bytes) for each part; None leaves it out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for part in old.namelist():
            data = change(part.split("/", 1)[1], old.read(part))
            if data is not None:
                new.writestr(part, data)


def rename(source, target, change, more):
    """Copies an archive with the parts under other names, and adds others."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for part in old.namelist():
            folder, name = part.split("/", 1)
            new.writestr(f"{folder}/{change(name)}", old.read(part))
        for name, data in more.items():
            new.writestr(f"{folder}/{name}", data)


def write_good(folder):
    torch.manual_seed(7)
    inputs = torch.rand(6, *IMAGE)
    models = {"residual": Residual(), "sequence": Sequence(), "recurrent": Recurrent(), "attention": Attention(),
              "tied": Tied(), "listing": Listing(), "sizes": Sizes(), "tokens": Tokens(), "narrow": Narrow()}
    for name, model in models.items():
        if name == "residual":  # Statistics that are not those of a new layer.
            model.train()
            for _ in range(3):
                model(torch.rand(8, *IMAGE))
        torch.jit.script(model).save(f"{folder}/{name}.pt")
        model.eval()
        inputs.numpy().tofile(f"{folder}/{name}.inputs.f32")
        model(inputs).detach().numpy().tofile(f"{folder}/{name}.outputs.f32")
    calm = Residual(dropout=0.0)
    torch.jit.script(calm).save(f"{folder}/calm.pt")
    torch.jit.trace(calm.eval(), inputs).save(f"{folder}/traced.pt")
    for name, momentum in (("slow", 0.01), ("cumulative", None), ("still", 0.0)):
        torch.jit.script(with_momentum(momentum)).save(f"{folder}/{name}.pt")


def write_bad(folder):
    for kind in (Weightless, Integers, Pair, TwoInputs, Flat, Classes, FixedBatch, Detached, Endless, Long,
                 Remainder, Fraction, SetEntry, SetSize, SetAttribute, Nested, Doubling, Extending, Growing, Chasing,
                 Text, MadeUp, MadeUpEmpty, MadeUpView, MadeUpFlat, MadeUpLength, MadeUpRepeat, MadeUpInPlace,
                 MadeUpOut, MadeUpInTurns, MadeUpState, Writes, WritesUnreached, Reads, Prints, Memory, Forks, AtLoad,
                 InList, InTuple, Unreached, Local, Random, Counting, Infinite):
        torch.jit.script(kind()).save(f"{folder}/bad_{kind.__name__}.pt")
    torch.jit.script(Linear().half()).save(f"{folder}/bad_half.pt")
    torch.jit.script(Linear().double()).save(f"{folder}/bad_double.pt")
    frozen = torch.jit.script(Linear().eval())
    torch.jit.freeze(frozen).save(f"{folder}/bad_frozen.pt")
    torch.jit.script(Linear().requires_grad_(False)).save(f"{folder}/bad_untrained.pt")
    torch.save(Linear().state_dict(), f"{folder}/bad_pickle.pt")
    torch.jit.trace(Residual().train(), torch.rand(4, *IMAGE), check_trace=False).save(f"{folder}/bad_traced.pt")
    source = f"{folder}/residual.pt"
    rewrite(source, f"{folder}/bad_new.pt", lambda name, data: b"99\n" if name == "version" else data)
    rewrite(source, f"{folder}/bad_operator.pt",
            lambda name, data: data.replace(b"torch.max_pool2d", b"torch.max_pool_of_2031"))
    rewrite(source, f"{folder}/bad_part.pt", lambda name, data: None if name == "data.pkl" else data)
    rename(source, f"{folder}/bad_legacy.pt", lambda name: name, {"model.json": b"{}"})
    rename(source, f"{folder}/bad_twice.pt", lambda name: name, {"DATA.pkl": b""})
    rewrite_bomb(source, f"{folder}/bad_bomb.pt")
    with open(source, "rb") as file:
        whole = file.read()
    for name, data in (("empty", b""), ("short", whole[: len(whole) // 2]), ("text", b"a model\n" * 200)):
        with open(f"{folder}/bad_{name}.pt", "wb") as file:
            file.write(data)


def rewrite_bomb(source, target):
    """17 MiB of code, and 512 MiB of data, of which next to nothing is in the file."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, old.read(part))
        folder = part.split("/", 1)[0]
        new.writestr(f"{folder}/data/1000", bytes(512 << 20))
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target.replace("bomb", "code"), "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, old.read(part))
        new.writestr(f"{folder}/code/__torch__/more.py", b"#" * (17 << 20))


def write_overwriting(folder):
    """Files that overwrite victim.bin while LibTorch loads them, each by another way round a look at the code."""
    victim = f"{folder}/victim.bin"
    with open(victim, "wb") as file:
        file.write(b"A" * 64)
    torch.jit.script(Overwriting(victim)).save(f"{folder}/bad_overwriting.pt")
    torch.jit.script(OverwritingLong(victim)).save(f"{folder}/bad_long_name.pt")
    rename(f"{folder}/bad_overwriting.pt", f"{folder}/bad_other_case.pt",
           lambda name: name[:-3] + ".PY" if name.endswith(".py") else name, {"code/decoy.py": b""})


if __name__ == "__main__":
    target = sys.argv[1]
    os.makedirs(target, exist_ok=True)
    torch.set_num_threads(1)
    write_good(target)
    write_bad(target)
    write_overwriting(target)
