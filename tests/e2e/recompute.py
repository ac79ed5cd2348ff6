"""recompute.py MODEL.npz TEST.csv: the accuracy of an exported multi-layer perceptron, by NumPy alone."""

import sys

import numpy


def accuracy(model_file, data_file):
    model = numpy.load(model_file, allow_pickle=False)
    data = numpy.loadtxt(data_file, delimiter=",", skiprows=1)
    x = (data[:, :-1] - model["preprocessing.mean"]) / model["preprocessing.scale"]
    layers = sorted({name.split(".")[0] for name in model.files if name.startswith("fc")})
    for layer in layers:
        x = x @ model[f"{layer}.weight"].T + model[f"{layer}.bias"]
        if layer != layers[-1]:
            x = numpy.maximum(x, 0)
    return float(numpy.mean(numpy.argmax(x, axis=1) == data[:, -1]))


if __name__ == "__main__":
    print(repr(accuracy(sys.argv[1], sys.argv[2])))
