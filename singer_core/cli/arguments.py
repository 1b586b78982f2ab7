"""Command lines made from dataclasses: a field is an argument, a field of settings a group of them.

`singer_core.settings` says what the fields' metadata mean. Values come back as the dataclass, so that nothing
behind the command line knows of argparse.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from ..settings import typed_fields

Values = TypeVar("Values")
Parser = argparse.ArgumentParser | argparse._ArgumentGroup

_METAVARS = {int: "N", float: "X", Path: "FILE"}


class StrictParser(argparse.ArgumentParser):
    """Raises ValueError where others print and exit: for arguments from elsewhere than a command line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}. `{self.prog} --help` lists what is accepted.")


def parse(kind: type[Values], words: Sequence[str], prog: str) -> Values:
    """The words as a `kind`. Raises ValueError for whatever is wrong with them."""
    parser = StrictParser(prog)
    add_arguments(parser, kind)
    return made(kind, vars(parser.parse_args(hyphenated(words))))


def changed(value: Values, kind: type, words: Sequence[str], prog: str) -> Values:
    """`value`, a `kind` or more, with what the words say of the fields of `kind`; lists grow.

    Raises ValueError for an argument that is none of these fields.
    """
    parser = StrictParser(prog)
    parser.argument_default = argparse.SUPPRESS
    add_arguments(parser, kind)
    return _replaced(value, vars(parser.parse_args(hyphenated(words))))


def hyphenated(words: Sequence[str]) -> list[str]:
    """The words, `--face_index`, as errors and nodes write it, among them as `--face-index`."""
    end = words.index("--") if "--" in words else len(words)
    names = [re.sub("^--[^=]*", lambda name: name[0].replace("_", "-"), word) for word in words[:end]]
    return [*names, *words[end:]]


def made(kind: Any, values: dict[str, Any]) -> Any:
    """A `kind` of the values of its arguments. Raises ValueError where they do not fit each other."""
    found: dict[str, Any] = {}
    for field, hint in typed_fields(kind):
        if dataclasses.is_dataclass(hint):
            found[field.name] = made(hint, values)
        elif _is_list(hint):
            found[field.name] = tuple(values[field.name] or ())
        else:
            found[field.name] = values[field.name]
    return kind(**found)


def flat(value: Any) -> dict[str, Any]:
    """Every argument's value by its name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        part: Any = getattr(value, field.name)
        found |= flat(part) if dataclasses.is_dataclass(part) else {field.name: part}
    return found


def add_arguments(parser: Parser, kind: Any) -> None:
    """An argument of the parser for every field."""
    for field, hint in typed_fields(kind):
        if not dataclasses.is_dataclass(hint):
            _add(parser, field, hint)
        elif "title" in field.metadata:
            group = parser.add_argument_group(field.metadata["title"], field.metadata["about"])
            add_arguments(group, hint)
        else:
            add_arguments(parser, hint)


def _add(parser: Parser, field: dataclasses.Field[Any], hint: Any) -> None:
    told, optional = field.metadata, field.default is not dataclasses.MISSING
    given: dict[str, Any] = {"help": _help(field)}
    if get_origin(hint) is Literal:
        given["choices"] = get_args(hint)
    elif hint is not bool:
        kind = get_args(hint)[0] if _is_list(hint) else hint
        given["type"] = _converter(told["parse"]) if "parse" in told else kind
        given["metavar"] = told.get("metavar", _METAVARS.get(kind))
    if told.get("positional"):
        if _is_list(hint) or optional:
            given["nargs"] = "?" if not _is_list(hint) else "*" if optional else "+"
        parser.add_argument(field.name, **given)
        return
    if hint is bool and field.default is True:
        given |= {"action": argparse.BooleanOptionalAction, "default": parser.argument_default or True}
    elif hint is bool or _is_list(hint):
        given["action"] = "store_true" if hint is bool else "append"
    elif not optional:
        given["required"] = True
    elif parser.argument_default is not argparse.SUPPRESS:
        given["default"] = field.default
    parser.add_argument("--" + field.name.replace("_", "-"), **given)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis


def _help(field: dataclasses.Field[Any]) -> str:
    words = field.metadata["help"].replace("%", "%%")
    silent = field.default in (dataclasses.MISSING, None, ()) or isinstance(field.default, bool)
    return words if silent else f"{words} (default: {field.default})"


def _converter(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Argparse shows its users the words of an error of its own kind alone."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _replaced(value: Any, changes: dict[str, Any]) -> Any:
    found = {}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if dataclasses.is_dataclass(part):
            found[field.name] = _replaced(part, changes)
        elif isinstance(change := changes.get(field.name, part), list):
            found[field.name] = (*part, *change)
        else:
            found[field.name] = change
    return dataclasses.replace(value, **found)
