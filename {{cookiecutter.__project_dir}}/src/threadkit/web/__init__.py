"""The web room: what a handler reads and answers, and everything HTTP around it.

    from threadkit.web import Answer, Blueprint, Created

A handler module needs these names; ``install`` and ``Shedding`` are for the kit.
"""

from threadkit.web.answers import Accepted, Answer, Created
from threadkit.web.blueprint import Blueprint
from threadkit.web.inputs import WHOLE, Payload, Preconditions, absent
from threadkit.web.install import install
from threadkit.web.shedding import Shedding

__all__ = [
    "WHOLE",
    "Accepted",
    "Answer",
    "Blueprint",
    "Created",
    "Payload",
    "Preconditions",
    "Shedding",
    "absent",
    "install",
]
