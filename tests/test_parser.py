"""The parser: its options are those of the tables of parameters."""

import pytest

from stemseg_core.command.options import SEGMENT, UNMIX
from stemseg_core.command.parser import parse, parser


@pytest.mark.parametrize(("command", "options"), [("segment", SEGMENT), ("unmix", UNMIX)])
def test_help_states_every_default(command, options):
    """As the table of parameters has it, where it is a number or a text."""
    (commands,) = (a for a in parser()._actions if a.dest == "command")
    actions = {}
    for action in commands.choices[command]._actions:
        if action.option_strings:
            actions.setdefault(action.dest, []).append(action)
    assert actions.keys() - {"help", "output", "quiet", "json"} == options.keys()
    for name, parameter in options.items():
        shown = [option for action in actions[name] for option in action.option_strings]
        assert shown == (list(parameter.flags) or [option for option in (parameter.short, parameter.option) if option])
        assert not any("`" in action.help for action in actions[name])
        stated = actions[name][0].help.split("(default: ")[1]
        default = parameter.default if parameter.command_default is None else parameter.command_default
        if type(default) in (int, float, str) and not parameter.flags:
            assert stated.removesuffix(")").split(",")[0] == str(default)
        else:
            assert len(stated) > 1


def test_noise_is_said_by_switches():
    words = ["unmix", "a.npy", "-o", "out"]
    assert not hasattr(parse(words, ["unmix"]), "noise")
    assert parse([*words, "--poisson"], ["unmix"]).noise == "poisson"
    assert parse([*words, "--no-weights"], ["unmix"]).noise is None
    assert parse([*words, "-n", "3"], ["unmix"]).n_components == 3
    assert parse(words, ["unmix"]).n_components == "auto"
