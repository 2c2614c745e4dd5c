"""``reelkind completion``: a script by which a shell completes commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from .output.talk import EXIT_OK

_DESCRIPTION = """\
Print a script that teaches a shell the commands and options of this release.

    bash   reelkind completion bash > ~/.local/share/bash-completion/completions/reelkind
    zsh    echo 'source <(reelkind completion zsh)' >> ~/.zshrc"""

_SCRIPT = """\
_reelkind() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" place="" words="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$place $word" in
            {places}) place="$place $word" ;;
        esac
    done
    case "$place $previous" in
{values}
        *) case "$place" in
{words}
        esac
        [[ $current == -* ]] || words="${{words%%--*}}" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _reelkind reelkind
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "completion",
        help="a script that completes this command in your shell",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "zsh"), help="zsh reads bash's by its own bashcompinit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    if args.shell == "zsh":
        print("autoload -U +X compinit bashcompinit && compinit && bashcompinit")
    print(script(args.command_line), end="")
    return EXIT_OK


def script(parser: argparse.ArgumentParser) -> str:
    """A command line to the script that completes it: at each place subcommands, then options; at options values."""
    values, words, known = [], [], []
    for place, there in places(parser):
        known.append(f'"{place}"')
        options = [name for action in there._actions for name in action.option_strings if name.startswith("--")]
        positional = [action for action in there._actions if not action.option_strings]
        named = [str(choice) for action in positional for choice in action.choices or ()]
        words.append(f'            "{place}") words="{" ".join([*named, *sorted(options)])}" ;;')
        for action in there._actions:
            if action.choices and action.option_strings:
                patterns = "|".join(f'"{place} {name}"' for name in action.option_strings)
                values.append(f'        {patterns}) words="{" ".join(map(str, action.choices))}" ;;')
    return _SCRIPT.format(places="|".join(known[1:]), values="\n".join(values), words="\n".join(words))


def places(parser: argparse.ArgumentParser, entered: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """All there are, outermost first: the subcommands entered, each after a space, and the parser of what follows."""
    yield entered, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from places(child, f"{entered} {name}")
