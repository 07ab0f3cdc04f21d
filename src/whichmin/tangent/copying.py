"""Private copies of a model, which keep what a plain deep copy loses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, mapped
from whichmin.tangent.model import evaluate


def private_copy(model: nn.Module) -> nn.Module:
    """A copy that can be trained and moved without touching the model.

    Hooks on parameters are kept, and parameters and buffers that share memory share it in the copy as well. What a
    model stored between calls with its autograd graph is detached.

    Raises:
        ModelError: the model cannot be copied; names what keeps it from that.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"got a {type(model).__name__}; expected a torch.nn.Module.")
    try:
        with torch.no_grad(), _Detaching():
            made = copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"the model {type(model).__name__} cannot be copied: {error}. {_uncopied(model)}Keep such objects out of "
            "the module, or give its class a __deepcopy__."
        ) from error
    for (name, old), (_, new) in zip(_tensors(model), _tensors(made), strict=True):
        if new is old:
            raise ModelError(
                f"a copy of the model {type(model).__name__} shares {name!r} with it (a __deepcopy__ of its own?): "
                "copies must be independent."
            )
        if old.is_leaf:
            new.requires_grad_(old.requires_grad)
        new.grad = None
        _copy_hooks(old, new)
    _share_memory(model, made)
    return made


def moved_copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters are moved by a tenth of their own size, or of 1 where they are zero: always the same one.

    It tells apart what a network computes also where an output layer is zero at first.
    """
    network, generator = private_copy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            if p.is_floating_point() and p.numel():
                size = float(p.double().square().mean().sqrt()) or 1.0
                p += 0.1 * size * torch.randn(p.shape, generator=generator).to(p)
    return network


class _Detaching(TorchFunctionMode):
    """Deep copies of tensors that are no leaves of a graph, which torch refuses, without their graph."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each object once."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _copy_hooks(old: Tensor, new: Tensor) -> None:
    for hook in (old._backward_hooks or {}).values():
        new.register_hook(hook)
    for hook in (getattr(old, "_post_accumulate_grad_hooks", None) or {}).values():
        new.register_post_accumulate_grad_hook(hook)


def _share_memory(model: nn.Module, made: nn.Module) -> None:
    """Let tensors of the copy share memory where those of the model do."""
    groups: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for (_, old), (_, new) in zip(_tensors(model), _tensors(made), strict=True):
        if old.layout is torch.strided and old.numel():
            groups.setdefault(old.untyped_storage().data_ptr(), []).append((old, new))
    for group in groups.values():
        if len(group) == 1:
            continue
        storage = group[0][0].untyped_storage().clone()
        for old, new in group:
            view = torch.empty(0, dtype=old.dtype, device=old.device)
            new.data = view.set_(storage, old.storage_offset(), old.size(), old.stride())  # pyright: ignore


def merge_shared(model: nn.Module) -> tuple[str, ...]:
    """Make one parameter of those that share all of their memory, in place; the names that were merged into others.

    A step moves such parameters by the sum of their gradients, as it moves one parameter that is used in several
    places.

    Raises:
        ModelError: parameters that share a part of their memory only.
    """
    first: dict[int, tuple[str, nn.Parameter]] = {}
    merged = []
    for name, p in list(model.named_parameters()):
        if p.layout is not torch.strided or not p.numel():
            continue
        key = p.untyped_storage().data_ptr()
        if key not in first:
            first[key] = (name, p)
            continue
        other_name, other = first[key]
        same = (p.storage_offset(), p.shape, p.stride()) == (other.storage_offset(), other.shape, other.stride())
        if not same and not _overlap(p, other):
            continue
        if not same or p.requires_grad != other.requires_grad:
            raise ModelError(
                f"parameters {other_name!r} and {name!r} share memory in a way that is no tie of one to the other: "
                "make them one parameter (b.weight = a.weight), or give each its own memory (weight.data.clone())."
            )
        *path, last = name.split(".")
        setattr(model.get_submodule(".".join(path)), last, other)
        merged.append(name)
    return tuple(merged)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two views of one storage may have entries in common, by the ranges that they span."""

    def span(t: Tensor) -> tuple[int, int]:
        start = int(t.storage_offset())
        return start, start + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))

    (a0, a1), (b0, b1) = span(a), span(b)
    return a0 <= b1 and b0 <= a1


def _uncopied(model: nn.Module) -> str:
    """Which attribute of which module cannot be copied."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                with torch.no_grad(), _Detaching():
                    copy.deepcopy(value)
            except Exception:
                where = f"{name}.{key}" if name else key
                return f"What keeps it from that is {where!r}, a {type(value).__name__}. "
    return ""


def without_shared_memory(model: nn.Module) -> nn.Module:
    """The model, or a copy in which parameters that share their memory are one parameter each.

    A model that was made in inference mode, whose tensors know no gradients, is copied as well.

    Raises:
        ModelError: as :func:`private_copy` and :func:`merge_shared`.
    """
    if any(t.is_inference() for _, t in _tensors(model)):
        model = private_copy(model)
    pointers = [p.untyped_storage().data_ptr() for p in model.parameters() if p.layout is torch.strided and p.numel()]
    if len(set(pointers)) == len(pointers):
        return model
    made = private_copy(model)
    merge_shared(made)
    return made


def is_coarse(dtype: torch.dtype) -> bool:
    """Whether a floating-point type has fewer digits than single precision."""
    return dtype.is_floating_point and torch.finfo(dtype).eps > torch.finfo(torch.float32).eps


def in_single_precision(
    model: nn.Module, x1: AnyInputs, x2: AnyInputs | None
) -> tuple[nn.Module, AnyInputs, AnyInputs | None]:
    """A network of half precision as a copy in single precision, with its inputs; any other as it is."""
    if not any(is_coarse(p.dtype) for p in model.parameters()):
        return model, x1, x2
    first = mapped(x1, _not_coarse)
    second = first if x2 is x1 else None if x2 is None else mapped(x2, _not_coarse)
    return private_copy(model).float(), first, second


def _not_coarse(x: Tensor) -> Tensor:
    return x.float() if is_coarse(x.dtype) else x


def check_independent(made: nn.Module, model: nn.Module, X: AnyInputs) -> None:
    """Refuse a copy whose forward still uses parameters of the model that it was copied from.

    Args:
        made: the copy.
        model: the model.
        X: some inputs.

    Raises:
        ModelError: which parameter, and through what it may be reached.
    """
    own = {id(p) for p in made.parameters()}
    watch = _Watching({id(p): name for name, p in model.named_parameters() if id(p) not in own})
    with torch.no_grad(), watch:
        evaluate(made, X[:2])
    if watch.seen is None:
        return
    suspects = [
        f"{name}.{key}" if name else key
        for name, module in made.named_modules()
        for key, value in vars(module).items()
        if callable(value) and not isinstance(value, nn.Module)
    ]
    hooked = [name or "the model" for name, m in made.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    through = f" through {' or '.join(suspects)}" if suspects else ""
    if hooked and not suspects:
        through = f" through a hook of {', '.join(hooked)}"
    raise ModelError(
        f"a copy of the model still uses parameter {watch.seen!r} of the original{through}: a function that was put on "
        "the model keeps hold of it. Make it a method of a class (class Doubled(nn.Linear): def forward(self, x): …), "
        "or a parametrization, that finds its parameters through self."
    )


class _Watching(TorchFunctionMode):
    """Looks for calls with some tensors."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self._names = names
        self.seen: str | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            if self.seen is None and isinstance(value, Tensor):
                self.seen = self._names.get(id(value))
        return func(*args, **(kwargs or {}))
