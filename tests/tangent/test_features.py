"""J as an object against J written out, on every network of the zoo."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles.features import Problem, gram, multiplied, pulled
from oracles.zoo import ZOO
from whichmin.kernels.layout import to_matrix
from whichmin.tangent import features as features_module
from whichmin.tangent.coordinates import Coordinates
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import features_of
from whichmin.tangent.layers.matrix_products import FEW
from whichmin.tangent.model import trainable
from whichmin.tangent.route import Route

EVERY = pytest.mark.parametrize("name", list(ZOO))
OUTPUTS = pytest.mark.parametrize("outputs", [1, 3])
ROWS = torch.tensor([3, 0, 4])


def near(a, b):
    torch.testing.assert_close(a.detach(), b, rtol=1e-10, atol=1e-10 * (1 + float(b.abs().max())))


def all_near(a, b):
    assert a.keys() == b.keys()
    for name, tensor in b.items():
        near(a[name], tensor)


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@EVERY
@OUTPUTS
def test_pulling_back(name, outputs):
    problem, c = Problem.of(name, outputs), drawn(5, outputs)
    expected = pulled(problem.J, c)
    for cotangent in (c, c.reshape(-1), *[c] * FEW):  # the later ones by transposes that are kept
        direction = problem.left.pull(cotangent)
        assert direction.steps == {}
        all_near(direction.tensors, expected)
    metric = problem.metric()
    all_near(problem.left.pull(c, metric=metric).tensors, {n: g * metric[n] for n, g in expected.items()})


@EVERY
@OUTPUTS
def test_pushing_forward(name, outputs):
    problem = Problem.of(name, outputs)
    v = problem.direction()
    near(problem.left.push(v), multiplied(problem.J, v))
    near(problem.right.push(Direction(v)), multiplied(problem.J_right, v))
    part = dict(list(v.items())[::2])
    near(problem.left.push(part), multiplied(problem.J, part))


@EVERY
@OUTPUTS
def test_by_rows(name, outputs):
    problem, c = Problem.of(name, outputs), drawn(3, outputs)
    J = {n: j[ROWS] for n, j in problem.J.items()}
    v = problem.direction()
    all_near(problem.left.pull(c, ROWS).tensors, pulled(J, c))
    near(problem.left.push(v, ROWS), multiplied(J, v))
    values = {n: p.detach() + v[n] for n, p in problem.left.parameters.items()}
    outputs_there = problem.left.outputs.detach() + multiplied(problem.J, v)
    near(problem.left.extrapolate(values), outputs_there)
    near(problem.left.extrapolate(values, ROWS), outputs_there[ROWS])


@EVERY
@OUTPUTS
def test_grams(name, outputs):
    problem = Problem.of(name, outputs)
    for metric in (None, problem.metric()):
        for other, J in ((None, problem.J), (problem.right, problem.J_right)):
            expected = gram(problem.J, J, metric)
            near(problem.left.gram(other, metric), to_matrix(expected))


@EVERY
@OUTPUTS
def test_pulling_is_the_adjoint_of_pushing(name, outputs):
    """⟨J v, c⟩ = ⟨v, Jᵀc⟩, and J Jᵀ c is the kernel times c, with rectangular J."""
    problem = Problem.of(name, outputs)
    for features in (problem.left, problem.right):
        c, v = drawn(len(features.outputs), outputs, seed=2), problem.direction()
        direction = features.pull(c)
        assert float((features.push(v) * c).sum()) == pytest.approx(features.inner(Direction(v), direction), rel=1e-9)
    c = drawn(3, outputs, seed=4)
    near(problem.left.push(problem.right.pull(c)).reshape(-1), problem.left.gram(problem.right) @ c.reshape(-1))


@OUTPUTS
@pytest.mark.parametrize("name", ["mlp", "mlp-bias", "frozen", "tied"])
def test_by_columns(name, outputs):
    """Inputs that are zero on all rows leave their columns of the first layer where they are."""
    problem = Problem.of(name, outputs)
    X = problem.left.X.clone()
    X[:, [1, 4]] = 0.0
    whole = features_of(problem.model, problem.left.parameters, X)
    at = Coordinates(whole)
    first = next(iter(whole.parameters))
    if name == "tied":  # used again on inputs that move
        assert at.columns == {}
        return
    assert {n: c.tolist() for n, c in at.columns.items()} == {first: [0, 2, 3, 5]}
    narrow, c = at.restrict(whole), drawn(5, outputs)
    direction, expected = narrow.pull(c).tensors, whole.pull(c).tensors
    all_near(direction, at.take(expected))
    assert direction[first].shape[1] == 4
    all_near(at.whole(direction, whole.parameters), expected)
    near(narrow.push(direction), whole.push(expected))
    v = at.take(problem.direction())
    near(narrow.push(v), whole.push(at.whole(v, whole.parameters)))
    near(narrow.gram(), whole.gram())
    before = {n: p.detach().clone() for n, p in whole.parameters.items()}
    at.add(direction, whole.parameters)
    all_near(dict(whole.parameters), {n: before[n] + expected[n] for n in before})


def test_columns_are_kept_where_few_are_zero():
    model = nn.Linear(20, 1).double()
    X = drawn(4, 20)
    X[:, 7] = 0.0
    assert Coordinates(features_of(model, trainable(model), X)).columns == {}


class Idle(nn.Module):
    """A parameter that no output depends on, one that is made of two, and one that is added twice."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.a, self.b = (nn.Parameter(drawn(4, 3, seed=s)) for s in (1, 2))
        self.shift = nn.Parameter(drawn(4, seed=3))

    def forward(self, x):
        h = torch.tanh(nn.functional.linear(x, self.a + self.b) + self.shift)
        return (h + self.shift).sum(1, keepdim=True)


def test_parameters_that_no_output_depends_on():
    model = Idle()
    features, c = features_of(model, trainable(model), drawn(5, 3)), drawn(5, 1)
    gradients = features.gradients(c)
    assert gradients["idle"] is None
    (model(features.X) * c).sum().backward()
    for name, p in model.named_parameters():
        if p.grad is None:
            assert float(features.pull(c).tensors[name].abs().max()) == 0
        else:
            near(gradients[name], p.grad)


def test_directions_share_no_memory():
    """Autograd may return one tensor for two parameters."""
    model = Idle()
    features, c = features_of(model, trainable(model), drawn(5, 3)), drawn(5, 1)
    direction = features.pull(c).tensors
    before = direction["b"].clone()
    direction["a"].mul_(2.0)
    assert torch.equal(direction["b"], before)


def test_a_kernel_leaves_its_features_as_they_are():
    model = Idle()
    features = features_of(model, trainable(model), drawn(5, 3))
    first = features.gram()
    assert torch.equal(features.gram(), first)


def test_directions():
    a, b = (Direction({"w": drawn(2, 3, seed=s)}, {"v": drawn(4, 2, seed=s + 1)}) for s in (1, 5))
    total = Direction.combined([(2.0, a), (-0.5, b), (0.0, b)])
    near(total.tensors["w"], 2 * a.tensors["w"] - 0.5 * b.tensors["w"])
    near(total.steps["v"], 2 * a.steps["v"] - 0.5 * b.steps["v"])
    near(a.minus(b).steps["v"], a.steps["v"] - b.steps["v"])
    assert Direction(a.tensors).square() == pytest.approx(float(a.tensors["w"].square().sum()))


@EVERY
@OUTPUTS
def test_formed_for_many_products(name, outputs):
    problem, c = Problem.of(name, outputs), drawn(5, outputs)
    formed = Problem.of(name, outputs).left.formed()
    v = problem.direction()
    all_near(formed.pull(c).tensors, pulled(problem.J, c))
    all_near(formed.pull(c[ROWS], ROWS).tensors, problem.left.pull(c[ROWS], ROWS).tensors)
    near(formed.push(v), multiplied(problem.J, v))
    near(formed.push(v, ROWS), multiplied(problem.J, v)[ROWS])
    near(formed.gram(), to_matrix(gram(problem.J, problem.J)))
    moved = {n: p.detach() + v[n] for n, p in formed.parameters.items()}
    near(formed.extrapolate(moved, ROWS), (formed.outputs.detach() + multiplied(problem.J, v))[ROWS])
    expected = problem.left.gradients(c)
    for parameter, g in formed.gradients(c).items():
        assert (g is None) == (expected[parameter] is None)


def test_what_does_not_fit_is_not_formed(monkeypatch):
    monkeypatch.setattr(features_module, "FORMED_BYTES", 8)
    left = Problem.of("cnn", 3).left
    products = dict(left._products)
    assert left.formed() is left
    assert left._products == products


def test_multiplications_are_those_of_gradients_that_are_formed():
    """Of a window's weights: n·C·positions·entries to form them, and half of (n·C)²·entries to multiply them."""
    model = nn.Sequential(nn.Conv1d(1, 3, 2, bias=False), nn.Flatten(), nn.Linear(9, 2, bias=False))
    features = features_of(model, dict(model.named_parameters()), torch.randn(4, 1, 4), route=Route())
    assert features.multiplications(10) == 6 * (10 * 2 * 3 + 20**2 / 2)


def test_scalars_count_once_for_each_position():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.o = nn.Parameter(torch.tensor(0.5)), nn.Linear(5, 2, bias=False)

        def forward(self, x):
            return self.o(torch.tanh(x * self.scale))

    model = Scaled()
    features = features_of(model, dict(model.named_parameters()), torch.randn(4, 5), route=Route())
    assert features.multiplications(10) == 10 * 2 * 5 + 20**2 / 2
