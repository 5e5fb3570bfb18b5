"""The parser: its options are those of the table of parameters."""

from stemseg_core.command.options import OPTIONS
from stemseg_core.command.parser import parser


def test_help_states_every_default():
    """As the table of parameters has it, where it is a number or a text."""
    (commands,) = (a for a in parser()._actions if a.dest == "command")
    actions = {a.dest: a for a in commands.choices["segment"]._actions if a.option_strings}
    assert actions.keys() - {"help", "output", "quiet", "json"} == OPTIONS.keys()
    for name, parameter in OPTIONS.items():
        assert actions[name].option_strings == [parameter.option]
        assert "`" not in actions[name].help
        stated = actions[name].help.split("(default: ")[1]
        if type(parameter.default) in (int, float, str):
            assert stated.removesuffix(")").split(",")[0] == str(parameter.default)
        else:
            assert len(stated) > 1
