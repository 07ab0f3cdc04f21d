"""Quick start
===========

Your own network and tensors: predict where training goes, train, take the outputs apart, write a report."""

from functools import partial

import torch
from torch import nn

import whichmin as wm

torch.manual_seed(0)
X, X_test = torch.randn(60, 10), torch.randn(200, 10)
y, y_test = X[:, 0] * X[:, 1], X_test[:, 0] * X_test[:, 1]
task = wm.Task(X, y, X_test, y_test)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(10, 1024)
        self.out = nn.Linear(1024, 1)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


model = Network()
optimizer = partial(torch.optim.SGD, lr=0.005)  # a factory: whichmin builds the optimizer on its own copy of the model

predicted = wm.predict(model, task, optimizer, until=1e-4, relinearize="path")  # no training loop
print(f"{predicted.method}: {predicted.intervals} linearizations, estimated error {predicted.error:.2g}")

run = wm.train(model, task, optimizer, until=1e-4)  # the real thing, on a copy of the model
print(run.reason)
print(f"distance of the prediction: {(predicted.test - run.test).square().mean().sqrt():.2g}")

explained = wm.explain(run)  # named terms that add up to run.test
print(explained.test_error())
explained.report("report.html")
