"""``torch.compile`` for image encoders with fixed shapes.

A graph break, or too many shapes, would leave parts of a model uncompiled with only a line in a
log. Here each is an error that says what to set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from pipeline.errors import ConfigError

T = TypeVar("T")


def compile_in_place(encoder: nn.Module) -> None:
    """Compiles a module's forward, as one graph and for fixed shapes, when it is first called."""
    encoder.compile(fullgraph=True, dynamic=False)


@contextmanager
def compiled(setting: str) -> Iterator[None]:
    """Turns errors of the compiler into ones that say what to do.

    Args:
        setting: the key of the configuration that asked for it.

    Raises:
        ConfigError: no compiler works here, the model does not compile, or frames come in more
            sizes than are compiled for.
    """
    # Not at the top: it takes seconds to import, and most runs compile nothing.
    from torch._dynamo import config as dynamo
    from torch._dynamo.exc import TorchDynamoException

    try:
        with dynamo.patch(fail_on_recompile_limit_hit=True):
            yield
    except TorchDynamoException as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{setting}=true: the image encoder does not compile here ({type(error).__name__}:"
            f" {first[:300]}); expected a C++ compiler on a CPU, Triton on a GPU, and frames of at"
            f" most {dynamo.recompile_limit} sizes; set {setting}=false"
        ) from error


def padded(items: Sequence[T], size: int) -> list[T]:
    """Returns a batch filled up to a size with copies of its last item."""
    return [*items, *[items[-1]] * (size - len(items))]
