"""Commands as async functions: Typer reads their options, and what they return is printed.

Slow imports are in the functions that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple, TypeVar, get_type_hints

import typer

from app.cli import console
from app.cli.console import AsJson, Output, Yes

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Awaitable[Output | str | None]])

YES = Parameter("yes", Parameter.KEYWORD_ONLY, default=False, annotation=Yes)
AS_JSON = Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)


class Before(NamedTuple):
    """Marks a parameter whose value is made of the options of `make`, before anything is opened."""

    make: Callable[..., object]


def command(
    group: typer.Typer, name: str, *, confirm: str | None = None, typed: str | None = None
) -> Callable[[Function], Function]:
    """Add an async function to the group, as the command of this name.

    The function's first parameter is `runtime`, an open Runtime, or `work`, a unit of work in the
    operator's name. The others are options, or marked by `Before`. What it returns is printed after
    the commit; if that is an Output, the command has `--json`. A function that returns None prints
    for itself. With `confirm`, in which `{kid}` is the value of the option `kid`, the command asks
    before anything is opened, and has `--yes`. With `typed`, the value of the option of that name
    must be typed again.
    """

    def add(function: Function) -> Function:
        opened = next(iter(signature(function).parameters), "")
        if opened not in {"runtime", "work"}:
            raise TypeError(f"{function.__qualname__}: its first parameter is not runtime or work")

        @wraps(function)
        def run(**given: Any) -> None:
            console.refuse_what_is_not_utf8(given)
            if confirm is not None:
                again = None if typed is None else given[typed]
                console.confirm(confirm.format(**given), yes=given["yes"], typed=again)
            arguments = {
                parameter: make(**{each.name: given[each.name] for each in made_of})
                for parameter, (make, made_of) in sources.items()
            }
            output = asyncio.run(_call(function, opened, arguments))
            if isinstance(output, Output):
                output.print(as_json=given["as_json"])
            elif output is not None:
                typer.echo(output)

        # The first one's type is imported for type checkers only: it can't be evaluated.
        run.__annotations__ = function.__annotations__ | {opened: Any}
        sources = {each.name: _source(each) for each in _parameters(run)[1:]}
        options = [option for _, made_of in sources.values() for option in made_of]
        if confirm is not None:
            options.append(YES)
        if get_type_hints(run)["return"] is Output:
            options.append(AS_JSON)
        run.__signature__ = Signature(options)  # type: ignore[attr-defined]
        group.command(name)(run)
        return function

    return add


async def _call(function: Callable[..., Awaitable[T]], opened: str, arguments: dict[str, Any]) -> T:
    """Return the result of the function with an open runtime, or a unit of work."""
    from app.runtime import Runtime
    from app.settings import Settings

    settings = Settings()
    console.say_where_no_service_runs(settings)
    async with Runtime.open(settings) as runtime:
        if opened == "runtime":
            return await function(runtime, **arguments)
        async with runtime.work(console.operator()) as work:
            return await function(work, **arguments)


def _parameters(function: Callable[..., object]) -> list[Parameter]:
    """Return the parameters, with evaluated annotations."""
    hints = get_type_hints(function, include_extras=True)
    return [
        each.replace(annotation=hints[each.name], kind=Parameter.KEYWORD_ONLY)
        for each in signature(function).parameters.values()
    ]


def _source(parameter: Parameter) -> tuple[Callable[..., object], list[Parameter]]:
    """Return what makes the parameter's value, and the options that it is made of."""
    for mark in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(mark, Before):
            return mark.make, _parameters(mark.make)
    return lambda **given: given[parameter.name], [parameter]
