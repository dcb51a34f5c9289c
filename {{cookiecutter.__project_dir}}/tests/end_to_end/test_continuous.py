"""What deploy/profiling asks for is there: the files are read as Alloy and Parca read them.

Each asks a running service for what its tool would, with the token, and gets a profile whose
types are those that Go's has under that name, by which the stores know them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import pytest
import yaml  # type: ignore[import-untyped]

from threadkit.profiling.decode import decode
from threadkit.profiling.window import LONGEST

from ..servers.processes import PROJECT
from ..servers.service import Service

FOLDER = PROJECT / "deploy/profiling"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="you have removed it")

TOKEN = "3am"
GO: Final = {
    "process_cpu": ({"samples/count", "cpu/nanoseconds"}, "cpu/nanoseconds"),
    # Go also has alloc_objects and alloc_space, which CPython keeps no account of.
    "memory": ({"inuse_objects/count", "inuse_space/bytes"}, "space/bytes"),
    "goroutine": ({"goroutine/count"}, "goroutine/count"),
    "mutex": ({"contentions/count", "delay/nanoseconds"}, "contentions/count"),
    "block": ({"contentions/count", "delay/nanoseconds"}, "contentions/count"),
}
"""What both tools scrape unless they are told not to, with Go's sample types and period type."""


class Scrape(NamedTuple):
    """One request that a tool makes again and again."""

    tool: str
    profile: str
    path: str
    params: dict[str, str]
    interval: float
    """Seconds from one to the next."""


def alloy(text: str) -> dict[str, Any]:
    """Alloy's syntax as far as the file uses it: blocks, and attributes of plain values."""
    text = re.sub(r"^ *//.*$", "", text, flags=re.M)
    word = r'"[^"\n]*"|[\w.]+(?:\("[^)\n]*"\))?|[{}\[\]=,]'
    assert re.sub(word, "", text).strip() == "", "a character that begins nothing"
    return _body(iter([*re.findall(word, text), "}"]))


def _body(words: Iterator[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in words:
        if name == "}":
            return found
        if name == ",":
            continue
        follows = next(words)
        if follows == "=":
            found[name.strip('"')] = _value(next(words), words)
            continue
        if follows != "{":
            assert follows.startswith('"')
            assert next(words) == "{"
        assert name not in found, f"{name} twice"
        found[name] = _body(words)
    msg = "a block has no end"
    raise AssertionError(msg)


def _value(word: str, words: Iterator[str]) -> Any:
    if word == "{":
        return _body(words)
    if word != "[":
        return {"true": True, "false": False}.get(word, word.strip('"'))
    items: list[Any] = []
    for each in words:
        if each == "]":
            break
        if each != ",":
            items.append(_value(each, words))
    return items


def seconds(duration: str) -> int:
    assert re.fullmatch(r"\d+s", duration), duration
    return int(duration[:-1])


def params(labels: dict[str, str]) -> dict[str, str]:
    """Both tools turn these labels of a target into its query."""
    found = {k: v for k, v in labels.items() if k.startswith("__param_")}
    return {k.removeprefix("__param_"): v for k, v in found.items()}


def alloys() -> list[Scrape]:
    file = alloy((FOLDER / "config.alloy").read_text())
    scrape, write = file["pyroscope.scrape"], file["pyroscope.write"]
    assert scrape["forward_to"] == ["pyroscope.write.pyroscope.receiver"]
    assert write == {"endpoint": {"url": 'sys.env("PYROSCOPE_URL")'}}
    assert scrape["bearer_token"] == 'sys.env("ADMIN_TOKEN")'
    assert "params" not in scrape
    known = {"targets", "forward_to", "bearer_token", "scrape_interval", "profiling_config"}
    assert scrape.keys() == known | {"delta_profiling_duration"}
    interval, delta = map(seconds, (scrape["scrape_interval"], scrape["delta_profiling_duration"]))
    assert 1 < delta <= interval - 1, "Alloy refuses it"
    profiles = {k.removeprefix("profile."): v for k, v in scrape["profiling_config"].items()}
    assert profiles.keys() == GO.keys(), "what is not named has Go's default, such as allocs"
    found = []
    for target in scrape["targets"]:
        assert target["__address__"] == "127.0.0.1:9000"
        assert target["service_name"]
        for name, profile in profiles.items():
            assert profile.keys() <= {"enabled", "path", "delta"}
            if profile["enabled"]:
                query = params(target)
                if profile.get("delta"):
                    query["seconds"] = str(delta)
                found.append(Scrape("alloy", name, profile["path"], query, interval))
    return found


def parcas() -> list[Scrape]:
    file = yaml.safe_load((FOLDER / "parca.yaml").read_text())
    assert file.keys() == {"object_storage", "scrape_configs"}
    assert len({job["job_name"] for job in file["scrape_configs"]}) == len(file["scrape_configs"])
    found = []
    for job in file["scrape_configs"]:
        # Parca refuses a file with a key that it does not know.
        known = {"job_name", "scrape_interval", "authorization", "static_configs"}
        assert job.keys() == known | {"profiling_config"}
        assert job["authorization"].keys() == {"type", "credentials_file"}
        assert job["authorization"]["type"] == "Bearer"
        profiles = job["profiling_config"]["pprof_config"]
        assert profiles.keys() == GO.keys(), "what is not named has Go's default, such as allocs"
        interval = seconds(job["scrape_interval"])
        for group in job["static_configs"]:
            assert group["targets"] == ["127.0.0.1:9000"]
            for name, profile in profiles.items():
                assert profile.keys() <= {"enabled", "path", "delta", "keep_sample_type"}
                if profile["enabled"]:
                    query = params(group["labels"])
                    if profile.get("delta"):
                        query["seconds"] = str(interval)
                    found.append(Scrape("parca", name, profile["path"], query, interval))
    return found


def scrapes() -> list[Scrape]:
    return [*alloys(), *parcas()] if FOLDER.is_dir() else []


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    """The service with a token, one for all of these tests."""
    environ = {"DATABASE_URL": new_database("sqlite"), "ADMIN_TOKEN": TOKEN, "WORKERS": "2"}
    made = Service(tmp_path_factory.mktemp("continuous") / "service", environ)
    try:
        yield made.wait_until_ready()
    finally:
        assert made.stop() == 0, made.stderr()
    assert made.left_behind() == []


@pytest.mark.parametrize("scrape", scrapes(), ids=lambda scrape: f"{scrape.tool}-{scrape.profile}")
def test_each_scrape_is_a_profile_of_the_whole_service_with_gos_types(
    service: Service, scrape: Scrape
) -> None:
    query = dict(scrape.params)
    if "seconds" in query:
        assert 0 < int(query["seconds"]) <= min(LONGEST, scrape.interval / 2)
        query["seconds"] = "1"
    target = f"{scrape.path}?{urlencode(query)}"
    assert service.ask("GET", target, admin=True).status == 404
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    answer = service.ask("GET", target, admin=True, headers=bearer)
    assert answer.status == 200, answer.data
    # Alloy takes nothing else for a profile.
    assert answer.headers["Content-Type"] == "application/octet-stream"
    profile = decode(answer.data)
    types, period = GO[scrape.profile]
    assert {"/".join(each) for each in profile.types} == types
    assert profile.period_type is not None
    assert "/".join(profile.period_type) == period
    assert "the sum of 2 workers" in profile.comments
    assert all("is missing" not in comment for comment in profile.comments)


def test_both_tools_scrape_the_same_and_one_profile_at_most_takes_time() -> None:
    found = scrapes()
    for tool in ("alloy", "parca"):
        mine = {scrape.profile: scrape for scrape in found if scrape.tool == tool}
        assert mine.keys() == {"process_cpu", "memory", "goroutine", "mutex"}
        assert [n for n, scrape in mine.items() if "seconds" in scrape.params] == ["process_cpu"]
        assert all(scrape.params["pid"] == "all" for scrape in mine.values())


def test_seconds_that_come_twice_are_those_of_the_first(service: Service) -> None:
    """As Alloy sends them where a file uses ``params``; Go reads the first, too."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    target = "/debug/pprof/profile?seconds=1&pid=all&seconds=2"
    answer = service.ask("GET", target, admin=True, headers=bearer)
    assert decode(answer.data).duration_ns == 1_000_000_000
