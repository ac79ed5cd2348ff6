"""Damaged and hostile TorchScript files neither crash nor hang the coordinator or the command that imports them: each
is taken, or refused with one clear line and a status of the contract. RIVULET_TEST_LONG tries ten times as many."""

import concurrent.futures
import os
import random
import subprocess
import sys
import time
import zipfile

from fleet import Fleet, ROOT, arguments_of, one_line, run_program

SPEC = """\
name = "user"
[model]
architecture = "torchscript"
path = "{path}"
[input]
shape = [1, 12, 12]
[task]
kind = "classification"
classes = ["0", "1", "2", "3", "4"]
"""

LONG = bool(os.environ.get("RIVULET_TEST_LONG"))
MUTANTS = 1000 if LONG else 100
PATIENCE = 330  # Above the limit on a child's time: a hang would end as a refusal, and is a failure all the same.
AT_ONCE = 2


def changed_bytes(data, chance, count, make):
    out = bytearray(data)
    for _ in range(count):
        if out:
            at = chance.randrange(len(out))
            out[at] = make(out[at])
    return bytes(out)


def truncate(data, chance):
    return data[:chance.randrange(len(data))]


def noise(data, chance):
    return chance.randbytes(chance.randrange(4096)) if chance.random() < 0.5 else b""


def flip(data, chance):
    return changed_bytes(data, chance, 1, lambda byte: byte ^ (1 << chance.randrange(8)))


def scatter(data, chance):
    return changed_bytes(data, chance, 64, lambda _: chance.randrange(256))


def directory(data, chance):
    """A byte of the list of contents at the end."""
    begin = data.rfind(b"PK\x05\x06") - 1500
    tail = changed_bytes(data[begin:], chance, 1, lambda _: chance.randrange(256))
    return data[:begin] + tail


def rezip(folder, data, chance, change):
    """Packs the archive anew after change(name, bytes), so that its checksums are right."""
    source, target = folder / f"{chance.random()}.zip", folder / f"{chance.random()}.zip"
    source.write_bytes(data)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            part = change(name.split("/", 1)[1], old.read(name))
            if part is not None:
                new.writestr(name, part)
    out = target.read_bytes()
    source.unlink()
    target.unlink()
    return out


def in_parts(folder, wanted, mutate):
    def apply(data, chance):
        return rezip(folder, data, chance, lambda name, part: mutate(part, chance) if wanted(name) else part)
    return apply


def small_integers(part, chance):
    """The operand of one of the pickle's one-byte integers."""
    places = [i for i, byte in enumerate(part[:-1]) if byte == 0x4B]
    if not places:
        return part
    at = chance.choice(places) + 1
    return part[:at] + bytes([chance.randrange(256)]) + part[at + 1:]


def large_integers(part, chance):
    """A one-byte integer becomes one of 32 bits: what killed the loader most often."""
    places = [i for i, byte in enumerate(part[:-1]) if byte == 0x4B]
    if not places:
        return part
    at = chance.choice(places)
    number = chance.choice([-1, 2**31 - 1, -2**31, chance.randrange(-2**31, 2**31)])
    return part[:at] + b"J" + number.to_bytes(4, "little", signed=True) + part[at + 2:]


def cut_or_drop(part, chance):
    return None if chance.random() < 0.5 else part[:chance.randrange(len(part) + 1)]


def kinds(folder):
    def is_pickle(name):
        return name == "data.pkl"

    def is_code(name):
        return name.startswith("code/") and name.endswith(".py")

    return [truncate, noise, flip, scatter, directory,
            in_parts(folder, is_pickle, lambda part, chance: changed_bytes(part, chance, 2, lambda _: chance.randrange(256))),
            in_parts(folder, is_pickle, small_integers),
            in_parts(folder, is_pickle, large_integers),
            in_parts(folder, is_code, lambda part, chance: changed_bytes(part, chance, 1, lambda _: chance.randrange(32, 127))),
            in_parts(folder, lambda name: name == "constants.pkl", scatter),
            in_parts(folder, lambda name: name.startswith("data/"),
                     lambda part, chance: cut_or_drop(part, chance) if chance.random() < 0.1 else part)]


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode:
        print("skipped: this Python has no torch; install python3-torch")
        return 77
    with Fleet(programs, nodes=0, settings={"round": {"cohort": 3}, "validation": {"evaluators": 3}}) as fleet:
        written = fleet.folder / "written"
        fleet.run_python(ROOT / "tests/models_runtime/write_torchscript.py", written)
        good = [(written / f"{name}.pt").read_bytes() for name in ("residual", "sequence", "traced")]
        hostile = sorted(written.glob("bad_*.pt"))
        fleet.found()
        assert fleet.coordinator.start()
        makers = kinds(fleet.folder)

        def try_import(number):
            """@return the status; a signal of rivulet-model itself is one that rivulet tells of."""
            chance = random.Random(number)
            name = f"{number}.pt"
            if number < len(hostile):
                data = hostile[number].read_bytes()
            else:
                data = makers[number % len(makers)](chance.choice(good), chance)
            (fleet.folder / name).write_bytes(data)
            spec = fleet.folder / f"{number}.toml"
            spec.write_text(SPEC.format(path=name))
            command = [fleet.programs / "rivulet", "--dir", fleet.directory, "model", "import", spec, "--release-key",
                       fleet.directory / "offline" / "release.key"]
            status, _, err = run_program(command, patience=PATIENCE)
            while "another model is being imported" in err:  # The coordinator takes one at a time.
                status, _, err = run_program(command, patience=PATIENCE)
            where = f"file {number}: status {status}: {err!r}"
            assert status in (0, 1, 2), where
            assert status == 0 or one_line(err, "rivulet"), where
            assert status != 0 or all(line.startswith("rivulet: note: ") for line in err.splitlines()), where
            assert number >= len(hostile) or status != 0, where
            (fleet.folder / name).unlink()
            return status, "ended by signal" in err

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(try_import, range(len(hostile) + MUTANTS)))
        mutants = results[len(hostile):]
        taken = sum(status == 0 for status, _ in mutants)
        killed = sum(signal for _, signal in mutants)
        print(f"{len(hostile)} bad files refused; of {MUTANTS} mutants {taken} taken, {MUTANTS - taken} refused, of "
              f"which {killed} had crashed their process; {time.monotonic() - began:.0f} s")
        assert 0 < taken < MUTANTS
        assert fleet.coordinator.alive()
        assert len(fleet.versions()) == taken  # Every import got its answer, and the registry has them all.
        assert not list(fleet.folder.glob("**/WRITTEN")) and not os.path.exists("WRITTEN")
        assert (written / "victim.bin").read_bytes() == b"A" * 64
        assert fleet.coordinator.stop() == 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
