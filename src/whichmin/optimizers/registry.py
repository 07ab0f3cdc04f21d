"""The optimizers that whichmin knows by name: one entry each, and nothing of them is said elsewhere.

Importing this module does not import torch: an entry names its class, its rule and the reader of its metric.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OptimizerFacts:
    """What is known of an optimizer class.

    Attributes:
        name: on the command line and in configurations.
        path: the class, "package.module:Class".
        default_lr: the learning rate where nothing is said: a number, "half", or None where none suits all. The numbers
            bring the default question (digits 0 against 1, one hidden layer of 2048) to a training loss of 1e-5.
        rule: a function "package.module:name" of a built optimizer and of ``flow`` that makes its
            ``whichmin.dynamics.rules.rule.Rule``, or None for settings without one; None where no rule is known.
        linear: whether a step is linear in the gradients, so that ``lr="best"`` and ``"half"`` mean something.
        metric: a function "package.module:name" of a parameter's state and group that reads the preconditioner D of the
            last step; None where there is none, or it is not known.
        elementwise: whether each number of a parameter moves by its own gradients alone, and stays where these are zero
            (without weight decay).
        without_default: where ``default_lr`` is None, why, and what to say: the end of a sentence.
        on_command_line: whether its settings can be said as text.
    """

    name: str
    path: str
    default_lr: float | str | None
    rule: str | None = None
    linear: bool = False
    metric: str | None = None
    elementwise: bool = False
    without_default: str = ""
    on_command_line: bool = True

    @property
    def optimizer_class(self) -> type:
        """The class itself; imports it."""
        return resolve(self.path)


_RULES = "whichmin.dynamics.rules"
_METRICS = "whichmin.optimizers.metric"

REGISTRY: dict[str, OptimizerFacts] = {
    facts.name: facts
    for facts in (
        OptimizerFacts("sgd", "torch.optim:SGD", "half", f"{_RULES}.momentum:stochastic_gradient_descent", linear=True),
        OptimizerFacts("nesterov", "whichmin.optimizers:Nesterov", "half", f"{_RULES}.nesterov:nesterov", linear=True),
        OptimizerFacts(
            "higher-momentum",
            "whichmin.optimizers:HigherMomentum",
            "half",
            f"{_RULES}.higher_momentum:higher_momentum",
            linear=True,
        ),
        OptimizerFacts(
            "preconditioned",
            "whichmin.optimizers:Preconditioned",
            None,
            f"{_RULES}.preconditioned:preconditioned",
            linear=True,
            metric=f"{_METRICS}:stored",
            on_command_line=False,
        ),
        OptimizerFacts(
            "adam", "torch.optim:Adam", 1e-3, f"{_RULES}.adam:adam", metric=f"{_METRICS}:adam", elementwise=True
        ),
        OptimizerFacts(
            "adamw", "torch.optim:AdamW", 1e-3, f"{_RULES}.adam:adam", metric=f"{_METRICS}:adam", elementwise=True
        ),
        OptimizerFacts("nadam", "torch.optim:NAdam", 3e-4, metric=f"{_METRICS}:adam", elementwise=True),
        OptimizerFacts("radam", "torch.optim:RAdam", 1e-3, metric=f"{_METRICS}:radam", elementwise=True),
        OptimizerFacts("adamax", "torch.optim:Adamax", 2e-3, metric=f"{_METRICS}:adamax", elementwise=True),
        OptimizerFacts(
            "adagrad",
            "torch.optim:Adagrad",
            1e-2,
            f"{_RULES}.adagrad:adagrad",
            metric=f"{_METRICS}:adagrad",
            elementwise=True,
        ),
        OptimizerFacts(
            "rmsprop",
            "torch.optim:RMSprop",
            3e-5,
            f"{_RULES}.rmsprop:rmsprop",
            metric=f"{_METRICS}:rmsprop",
            elementwise=True,
        ),
        OptimizerFacts("adadelta", "torch.optim:Adadelta", 10.0),
        OptimizerFacts("rprop", "torch.optim:Rprop", 1e-3),
        OptimizerFacts("adafactor", "torch.optim:Adafactor", 3e-5),
        OptimizerFacts("muon", "torch.optim:Muon", 1e-3),
        OptimizerFacts(
            "asgd",
            "torch.optim:ASGD",
            None,
            without_default="its setting lambd=1e-4 shrinks the weights, so that it does not come to a training error "
            "of 0. Say one, such as asgd:lr=1,lambd=0.",
        ),
    )
}


def facts_of(optimizer_class: type) -> OptimizerFacts | None:
    """The entry of a class, exactly; None for one that is not known. A subclass may do anything in its step."""
    for facts in REGISTRY.values():
        module, _, name = facts.path.partition(":")
        if optimizer_class.__name__ == name and getattr(importlib.import_module(module), name, None) is optimizer_class:
            return facts
    return None


def resolve(path: str) -> Any:
    """What "package.module:name" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
