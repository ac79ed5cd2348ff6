"""Networks that can take part."""
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

IMAGE = (1, 12, 12)
CLASSES = 5


class Linear(nn.Module):
    """The least of all; the base of those that are refused."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(144, CLASSES)

    def forward(self, x):
        return self.fc(torch.flatten(x, 1))


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


class Temporal(nn.Module):
    """Causal convolutions under weight norm, which only a trace can express."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.weight_norm(nn.Conv1d(12, 8, 3, padding=2))
        self.again = nn.utils.weight_norm(nn.Conv1d(8, 8, 3, padding=2), dim=2)
        self.mix = nn.utils.weight_norm(nn.Linear(8, 8), dim=None)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        y = torch.tanh(self.first(x.squeeze(1))[:, :, :-2])
        y = torch.tanh(self.again(y)[:, :, :-2])
        return self.head(torch.tanh(self.mix(y[:, :, -1])))


class Spectrum(nn.Module):
    """A learned filter between a Fourier transform and its inverse, and what vibrates how much."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.rand(9))
        self.head = nn.Linear(9 + 9 + 9 + 16, CLASSES)

    def forward(self, x):
        spectrum = torch.fft.rfft(x.squeeze(1), 16, norm="ortho") * self.filter
        back = torch.fft.irfft(spectrum, norm="ortho")
        parts = torch.cat([spectrum.abs(), spectrum.real, spectrum.imag, back], 2)
        total = parts[:, 0]
        for t in range(1, spectrum.size(1)):
            total = total + parts[:, t]
        return self.head(total / 12)


class Logarithms(Linear):
    """Its answers are what softmax leaves as it is after exp()."""

    def forward(self, x):
        return F.log_softmax(self.fc(torch.flatten(x, 1)), 1)


class Keeping(nn.Module):
    """Has attributes of all kinds, remembers something of its training alone, and changes lists of its own."""

    sizes: Dict[str, int]
    pair: Tuple[int, float]
    nothing: Optional[torch.Tensor]
    table: List[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.sizes = {"rows": 6}
        self.pair = (2, 0.5)
        self.nothing = None
        self.table = [torch.ones(12), torch.ones(12)]
        self.register_buffer("seen", torch.zeros(1))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = x.squeeze(1)
        if self.training and self.nothing is None:
            self.seen = x.mean().detach().reshape(1)
        parts = list(x.split(self.sizes["rows"], 1))
        parts.append(x)
        sums = [parts[0].mean(1)]
        for row in range(x.size(1)):
            if row > 9:
                sums.append(x[:, row] * self.table[0] + parts[2].mean(1))
        counts: Dict[str, int] = {}
        counts["sums"] = len(sums)
        sums[0] = sums[0] * self.pair[1]
        return self.head(torch.stack(sums).sum(0) / counts["sums"])
