"""Commands as their parsers describe them."""

from __future__ import annotations

import argparse

from rst import indented, plain, title, toctree

from figures.__main__ import _parser as figures_parser
from sgdynamics.cli import _parser as package_parser


def pages() -> dict[str, str]:
    """A page a command."""
    parser = package_parser()
    (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    made = {f"commands/{name}": _page(f"sgdynamics {name}", one) for name, one in commands.choices.items()}
    made["commands/figures"] = _page("python -m figures", figures_parser())
    index = title("Commands") + plain(parser.description) + "\n\n"
    for choice in commands._choices_actions:
        index += f":doc:`sgdynamics {choice.dest} <{choice.dest}>`\n   {plain(choice.help)}\n\n"
    index += ":doc:`python -m figures <figures>`\n   " + plain(figures_parser().description) + "\n\n"
    index += "All take ``--help``; those of the package print one JSON object with ``--json``.\n\n"
    return made | {"commands/index": index + toctree([*commands.choices, "figures"], hidden=True)}


def _page(name: str, parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=78)
    usage = parser.format_usage().removeprefix("usage: ")
    text = title(name) + plain(parser.description) + f"\n\n.. code-block:: text\n\n{indented(usage)}\n"
    for group in parser._action_groups:
        if not group._group_actions:
            continue
        text += title((group.title or "").capitalize(), "-")
        if group.description:
            text += plain(group.description) + "\n\n"
        for action in group._group_actions:
            text += _entry(parser, action)
    return text


def _entry(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter(parser.prog)
    called = formatter._format_action_invocation(action)
    help_ = plain(formatter._expand_help(action)) if action.help else ""
    if action.choices is not None and "{" not in called:
        help_ += f" One of {', '.join(map(str, action.choices))}."
    if action.required and action.option_strings:
        help_ += " (required)"
    return f"``{called}``\n   {help_.strip() or '(see above)'}\n\n"
