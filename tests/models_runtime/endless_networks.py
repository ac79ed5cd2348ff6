"""Networks with loops of which nobody knows when they end: an import refuses them."""
import torch

from good_networks import Linear


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


class MadeUpSpectrum(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            for _ in range(torch.fft.rfft(x, 1 << 60).size(3)):
                y = y + 0.0
        return y


class MadeUpSpectra(Linear):
    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            z = torch.fft.irfft(torch.fft.irfft(x[:0], 4000, 1), 4000, 2)
            for _ in range(torch.fft.irfft(z, 4000, 3).flatten(1).size(1)):
                y = y + 0.0
        return y


class DoubledSpectrum(Linear):
    """Without a number of its own an inverse transform gives twice as many as it takes, less two."""

    def forward(self, x):
        y = self.fc(torch.flatten(x, 1))
        if bool(y.sum() > 1e9):
            z = torch.fft.irfft(torch.fft.irfft(torch.fft.irfft(torch.fft.irfft(x))))
            for _ in range(z.size(3)):
                for _ in range(z.size(3)):
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


ENDLESS = (Endless, Long, Remainder, Fraction, SetEntry, SetSize, SetAttribute, Nested, Doubling, Extending,
           Growing, Chasing, Text, MadeUp, MadeUpEmpty, MadeUpView, MadeUpFlat, MadeUpLength, MadeUpRepeat,
           MadeUpInPlace, MadeUpOut, MadeUpInTurns, MadeUpSpectrum, MadeUpSpectra, DoubledSpectrum, MadeUpState)
