"""An op that the tests of the benchmarks measure: the running sum of a tensor."""

import importlib

import torch

cases = importlib.import_module("benchmarks.cases")  # the package at the root


def by_loop(x):
    total, sums = 0.0, []
    for value in x.tolist():
        total += value
        sums.append(total)
    return sums


def toy(**changes):
    options = {
        "op": "running_sum",
        "name": "100 numbers",
        "inputs": lambda: (torch.arange(100.0),),
        "ours": lambda x: x.cumsum(0),
        "reference": by_loop,
        "peer": cases.Peer("numpy", lambda x: x.cpu().numpy().cumsum()),
        "flops": lambda x: len(x),
    }
    return cases.Case(**(options | changes))
