"""Networks that an import refuses, each for one reason that is no loop."""
from typing import Dict, List, Optional, Tuple

import torch
from torch import nn

from good_networks import Linear


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


class Probabilities(Linear):
    def forward(self, x):
        return torch.softmax(self.fc(torch.flatten(x, 1)), 1)


class ProbabilitiesServed(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        return y if self.training else torch.softmax(y, 1)


class ProbabilitiesTrained(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        return torch.softmax(y, 1) if self.training else y


class FixedBatch(Linear):
    def forward(self, x):
        return self.fc(x.reshape(4, 144))


class Detached(Linear):
    def forward(self, x):
        return self.fc(torch.flatten(x, 1)).detach()


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


class Infinite(Linear):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.fc.bias[2] = float("inf")


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


class NoGrad(Linear):
    def forward(self, x):
        with torch.no_grad():
            mean = x.mean()
        return self.fc(torch.flatten(x - mean, 1))


class Autocast(Linear):
    def forward(self, x):
        with torch.autocast("cpu"):
            return self.fc(torch.flatten(x, 1))


class Normed(Linear):
    """LibTorch writes a norm for each row of v to where it has room for those of g."""

    def __init__(self, rows=5):
        super().__init__()
        self.v = nn.Parameter(torch.rand(5, 5))
        self.g = nn.Parameter(torch.ones(rows, 1))

    def norm(self):
        return torch._weight_norm(self.v, self.g, 0)

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            y = y @ self.norm()
        return y


class NormedTooFew(Normed):
    def __init__(self):
        super().__init__(1)


class NormedLast(NormedTooFew):
    def norm(self):
        return torch._weight_norm(self.v, self.g, 1)


class NormedPart(Normed):
    def norm(self):
        return torch._weight_norm(self.v, self.g[:1], 0)


class NormedInPlace(Normed):
    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(torch.rand(5, 7))

    def norm(self):
        turned = torch.dropout(self.v, 0.5, False).t_()  # Which is v itself.
        return torch._weight_norm(self.v, self.g, 0) + turned.sum()


class NormedSet(Normed):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(5, 1))

    def norm(self):
        if self.training:
            self.scale = self.scale[:1]
        return torch._weight_norm(self.v, self.scale, 0)


class NormedSomewhere(Normed):
    def norm(self):
        return torch._weight_norm(self.v, self.g, self.v.size(0) - 5)


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


class KeepsInList(Linear):
    """The next call reads what belongs to this one's caller."""

    kept: List[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.kept = [torch.zeros(4097)]

    def forward(self, x):
        self.kept[0] = x
        return self.fc(torch.flatten(x, 1))


class GrowsList(KeepsInList):
    def forward(self, x):
        kept = self.kept
        if x.size(0) > 1000:
            kept = [x]
        kept.append(x)
        return self.fc(torch.flatten(x, 1))


class KeepsInDictionary(Linear):
    kept: Dict[str, torch.Tensor]

    def __init__(self):
        super().__init__()
        self.kept = {"last": torch.zeros(1)}

    def forward(self, x):
        self.kept["last"] = x
        return self.fc(torch.flatten(x, 1))


class SetsAtTimes(Linear):
    """In a branch that no trial takes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x):
        if float(x.sum()) > 1e6:
            self.last = x
        return self.fc(torch.flatten(x, 1))


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = 1

    def forward(self, x):
        return x * self.first


class Thin(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = 1
        self.other = 4097

    def forward(self, x):
        return x * self.first + self.other


class Parts(Linear):
    """From which files are made by hand: a list of a tensor, a number, and two classes."""

    table: List[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.table = [torch.zeros(4099)]
        self.wide = Wide()
        self.thin = Thin()

    def forward(self, x):
        return self.fc(self.thin(self.wide(torch.flatten(x, 1)))) + self.table[0][0]


REFUSED = (Weightless, Integers, Pair, TwoInputs, Flat, Classes, Probabilities, ProbabilitiesServed,
           ProbabilitiesTrained, FixedBatch, Detached, Random, Counting, Infinite, Writes, WritesUnreached, Reads,
           Prints, Memory, Forks, NoGrad, Autocast, NormedTooFew, NormedLast, NormedPart, NormedInPlace, NormedSet,
           NormedSomewhere, AtLoad, InList, InTuple, Unreached, Local, KeepsInList, GrowsList, KeepsInDictionary,
           SetsAtTimes)
