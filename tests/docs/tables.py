"""The tables in the documents, made of what they are about: profiles, verbs, schemas, measured results."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from edge_agent import cli
from edge_agent.mqtt import contract
from edge_agent.mqtt.desired import ALLOWED
from edge_agent.profile.load import load_all
from edge_agent.verbs import profiles as verb_profiles
from tests.docs.figures import FIGURES, TUNING, Figure
from tests.docs.pages import REPOSITORY, Language, path

SCHEMAS = REPOSITORY / "edge_agent/mqtt/schemas"
UP = ("status", "info", "health", "transcript", "gap", "event", "config", "answer", "text")


class Untranslated(Exception):
    """English texts of the program that words.toml has no Chinese for."""


@cache
def _words() -> dict[str, str]:
    with (Path(__file__).with_name("words.toml")).open("rb") as file:
        return {str(en): str(zh) for en, zh in tomllib.load(file).items()}


def said(text: str, language: Language) -> str:
    """A text of the program in the language of the page."""
    if language == "en" or not text:
        return text
    if text not in _words():
        raise Untranslated(f"tests/docs/words.toml lacks: {json.dumps(text)}")
    return _words()[text]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines)


def profiles(language: Language) -> str:
    """Every profile: what it is for, what it runs, whether it was run on such a machine."""
    loaded = [entry.profile for entry in load_all([REPOSITORY / "profiles"]).values()]
    rows = []
    for profile in verb_profiles.ordered(loaded):
        if not profile.abstract:
            engine = f"{profile.engine.kind}/{profile.engine.compute_type}"
            rows.append(
                (
                    f"`{profile.name}`",
                    said(profile.description, language),
                    engine if profile.engine.device == "cpu" else f"{engine}, CUDA",
                    said(profile.status, language),
                )
            )
    return table((said(word, language) for word in ("profile", "for", "engine", "state")), rows)


def verbs(language: Language) -> str:
    """Every verb with its own summary, and its actions."""
    parser = cli._parser(None)
    choices = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    rows = []
    for choice in choices._choices_actions:
        actions = _actions(choices.choices[choice.dest])
        name = f"`{choice.dest}`" + (f" {', '.join(actions)}" if actions else "")
        rows.append((name, said(str(choice.help), language)))
    return table((said(word, language) for word in ("verb", "does")), rows)


def _actions(parser: argparse.ArgumentParser) -> list[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices)
    return []


@cache
def _asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))
    return document


def topics(language: Language) -> str:
    """What is published: topic, quality of service, retained, life, body; from the AsyncAPI document."""
    rows = []
    for name, operation in _asyncapi()["operations"].items():
        if operation["action"] == "send":
            binding = operation["bindings"]["mqtt"]
            address = _asyncapi()["channels"][name]["address"].removeprefix("{prefix}/{device}/")
            expiry = binding.get("messageExpiryInterval")
            rows.append(
                (
                    f"`{address}`",
                    str(binding["qos"]),
                    said("yes" if binding["retain"] else "no", language),
                    f"{expiry} s" if expiry else "",
                    said(operation["summary"], language),
                )
            )
    return table((said(w, language) for w in ("topic", "QoS", "retained", "expires", "says")), rows)


COMMANDS = {
    "mute": "closes the microphone, also across restarts; the time is told as a gap",
    "unmute": "opens it again",
    "flush": "publishes what is being said now",
    "listen": "opens the gate for one utterance, or for so long; 0 closes it",
    "set_profile": "another profile, or auto; takes a restart",
    "reload_terms": "other domain words; without them those of the configuration file",
    "self_test": "recognises a known recording in the next pause",
    "replay": "sends delivered messages again",
    "install_model": "brings a signed model of the fleet to serve once, by name and number, never by address",
    "restart": "ends with exit code 75, for the service manager to start it again",
}
"""What the schema of commands does not say: what each does. A type without a line here is an error."""


def commands(language: Language) -> str:
    """The closed set of commands with their arguments; from the schema."""
    schema = contract.schema("command")
    arguments = {
        rule["if"]["properties"]["type"]["const"]: rule["then"]["properties"]["args"]
        for rule in schema["allOf"]
    }
    rows = []
    for kind in schema["properties"]["type"]["enum"]:
        args = arguments.get(kind, {})
        names = [f"`{name}`" + _range(part, language) for name, part in args.get("properties", {}).items()]
        joint = said(" or ", language) if "oneOf" in args else ", "
        rows.append((f"`{kind}`", joint.join(names), said(COMMANDS[kind], language)))
    return table((said(word, language) for word in ("type", "args", "does")), rows)


def _range(part: dict[str, Any], language: Language) -> str:
    if "minimum" in part and "maximum" in part:
        return said(" ({low} to {high})", language).format(low=part["minimum"], high=part["maximum"])
    return ""


def desired(language: Language) -> str:
    """What may be set from afar, with types and bounds; from the schema and the code's own list."""
    properties = contract.schema("desired")["properties"]["desired"]["properties"]
    rows = []
    for key in ALLOWED:
        section, _, name = key.partition(".")
        part = properties[section]["properties"][name]
        rows.append((f"`{key}`", _kind(part), _bounds(part)))
    return table((said(word, language) for word in ("key", "type", "values")), rows)


def bodies(language: Language) -> str:
    """The fields of every body that is published, as their schemas have them."""
    out = []
    for name in UP:
        schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        if schema.get("type") != "object":
            continue
        out.append(f"### {schema['title']}: [{name}.json](../../edge_agent/mqtt/schemas/{name}.json)\n\n")
        out.append(f"{said(schema['description'], language)}\n\n")
        head = (said(word, language) for word in ("field", "type", "always there", "values", "meaning"))
        out.append(table(head, _fields(schema, language)) + "\n")
    return "".join(out).rstrip("\n") + "\n"


def _fields(schema: dict[str, Any], language: Language, at: str = "") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    always = set(schema.get("required", ()))
    then = set(schema.get("then", {}).get("required", ()))
    for name, part in schema.get("properties", {}).items():
        there = "yes" if name in always else "in finals" if name in then else "no"
        meaning = said(part.get("description", ""), language)
        values = _bounds(part)
        rows.append((f"`{at}{name}`", _kind(part), said(there, language), values, meaning))
        inner = part.get("items", part)
        if inner.get("properties"):
            rows += _fields(inner, language, f"{at}{name}{'[]' if inner is not part else ''}.")
    return rows


def _kind(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if kind is None:
        return "string" if "enum" in part or "const" in part else "any"
    if kind == "array" and isinstance(part.get("items"), dict) and "type" in part["items"]:
        return f"array of {part['items']['type']}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _bounds(part: dict[str, Any]) -> str:
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return " ".join(f"`{value}`" for value in part["enum"] if value != "")
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f"{low}..{high}"
    return f"≥ {low}" if low is not None else ""


def figures(language: Language) -> str:
    """The figures of the README, each taken from its cell in RESULTS.md."""
    return _figures(FIGURES, language)


def tuning(language: Language) -> str:
    """What each setting costs and gains, from RESULTS.md."""
    return _figures(TUNING, language)


def _figures(which: Iterable[Figure], language: Language) -> str:
    rows = [(figure.label(language), figure.value(language), f"`{figure.command()}`") for figure in which]
    head = ("figure", "value", "command")
    return table((said(word, language) for word in head), rows)


MAKERS: dict[str, Callable[[Language], str]] = {
    "profiles": profiles,
    "verbs": verbs,
    "topics": topics,
    "commands": commands,
    "desired": desired,
    "bodies": bodies,
    "figures": figures,
    "tuning-figures": tuning,
}


def fresh(pair: str, language: Language) -> str:
    """A page with all its generated blocks made anew.

    Raises:
        Untranslated: the Chinese page would hold English.
        KeyError: a mark that nothing is made for.
    """
    page = path(pair, language)

    def renew(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- {name}: begin -->\n{MAKERS[name](language)}<!-- {name}: end -->"

    return re.sub(
        r"<!-- ([a-z-]+): begin -->\n.*?<!-- \1: end -->",
        renew,
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
