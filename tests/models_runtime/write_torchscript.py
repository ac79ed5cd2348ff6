#!/usr/bin/env python3
"""Writes TorchScript files with PyTorch, as users do: write_torchscript.py FOLDER.

Beside the good ones (their first outputs in NAME.inputs.f32 and NAME.outputs.f32) each file is one that an
import has to refuse for one reason, or that a mutation starts from.
"""
import os
import sys
import zipfile

import torch
from torch import nn

from endless_networks import ENDLESS
from good_networks import (IMAGE, Attention, Keeping, Linear, Listing, Logarithms, Narrow, Recurrent, Residual,
                           Sequence, Sizes, Spectrum, Temporal, Tied, Tokens)
from refused_networks import REFUSED, Overwriting, OverwritingLong, Parts


def with_momentum(momentum):
    model = Residual(dropout=0.0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = momentum
    for _ in range(3):
        model(torch.rand(8, *IMAGE))
    return model


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
              "tied": Tied(), "listing": Listing(), "keeping": Keeping(), "sizes": Sizes(), "tokens": Tokens(),
              "narrow": Narrow(), "temporal": Temporal(), "spectrum": Spectrum(), "logarithms": Logarithms()}
    for name, model in models.items():
        if name == "residual":  # Statistics that are not those of a new layer.
            model.train()
            for _ in range(3):
                model(torch.rand(8, *IMAGE))
        written = torch.jit.trace(model, inputs) if name == "temporal" else torch.jit.script(model)
        written.save(f"{folder}/{name}.pt")
        model.eval()
        inputs.numpy().tofile(f"{folder}/{name}.inputs.f32")
        model(inputs).detach().numpy().tofile(f"{folder}/{name}.outputs.f32")
    calm = Residual(dropout=0.0)
    torch.jit.script(calm).save(f"{folder}/calm.pt")
    torch.jit.trace(calm.eval(), inputs).save(f"{folder}/traced.pt")
    for name, momentum in (("slow", 0.01), ("cumulative", None), ("still", 0.0)):
        torch.jit.script(with_momentum(momentum)).save(f"{folder}/{name}.pt")


def write_bad(folder):
    for kind in REFUSED + ENDLESS:
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


def write_made_up(folder):
    """Files whose objects are not what their code says, which the loader believes."""

    def number(value):
        return b"M" + value.to_bytes(2, "little")  # BININT2 of pickle

    source = f"{folder}/parts.pt"
    torch.jit.script(Parts()).save(source)
    changes = {
        "beyond": lambda data: number(60000).join(data.rsplit(number(4099), 1)),  # The tensor alone,
        "short_part": lambda data: data.replace(number(4099), number(60000)),  # and its storage too.
        "number": lambda data: data.replace(number(4097), b"\x88"),  # True
        "class": lambda data: data.replace(b"Thin\n", b"Wide\n"),
    }
    for kind, change in changes.items():
        def change_data(name, data, change=change):
            if name != "data.pkl":
                return data
            changed = change(data)
            assert changed != data
            return changed
        rewrite(source, f"{folder}/bad_{kind}.pt", change_data)


if __name__ == "__main__":
    target = sys.argv[1]
    os.makedirs(target, exist_ok=True)
    torch.set_num_threads(1)
    write_good(target)
    write_bad(target)
    write_overwriting(target)
    write_made_up(target)
