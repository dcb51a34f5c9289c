"""profile.proto for the real protobuf runtime: what other readers of our profiles use."""

from __future__ import annotations

import gzip
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

# github.com/google/pprof/proto/profile.proto: name, number, type; * repeated, > a message.
_MESSAGES = {
    "ValueType": "type 1 int64, unit 2 int64",
    "Label": "key 1 int64, str 2 int64, num 3 int64, num_unit 4 int64",
    "Sample": "location_id 1 uint64*, value 2 int64*, label 3 >Label*",
    "Mapping": "id 1 uint64, memory_start 2 uint64, memory_limit 3 uint64, file_offset 4 uint64, "
    "filename 5 int64, build_id 6 int64, has_functions 7 bool, has_filenames 8 bool, "
    "has_line_numbers 9 bool, has_inline_frames 10 bool",
    "Line": "function_id 1 uint64, line 2 int64, column 3 int64",
    "Location": "id 1 uint64, mapping_id 2 uint64, address 3 uint64, line 4 >Line*, "
    "is_folded 5 bool",
    "Function": "id 1 uint64, name 2 int64, system_name 3 int64, filename 4 int64, "
    "start_line 5 int64",
    "Profile": "sample_type 1 >ValueType*, sample 2 >Sample*, mapping 3 >Mapping*, "
    "location 4 >Location*, function 5 >Function*, string_table 6 string*, drop_frames 7 int64, "
    "keep_frames 8 int64, time_nanos 9 int64, duration_nanos 10 int64, period_type 11 >ValueType, "
    "period 12 int64, comment 13 int64*, default_sample_type 14 int64",
}


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="threadkit_test_profile.proto", package="threadkit_test", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in fields.split(","):
            field, number, kind = line.split()
            added = message.field.add(name=field, number=int(number))
            added.label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind.startswith(">"):
                added.type = kinds.TYPE_MESSAGE
                added.type_name = f".threadkit_test.{kind[1:]}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("threadkit_test.Profile")
    return message_factory.GetMessageClass(found)


Message = _build()


def parse(data: bytes) -> Any:
    """What the real runtime reads in an encoded profile."""
    message = Message()
    message.ParseFromString(gzip.decompress(data))
    return message


def rows(message: Any) -> dict[tuple[Any, ...], list[int]]:
    """Samples as they were before they were put into tables."""
    text = message.string_table
    functions = {f.id: f for f in message.function}
    locations = {x.id: x for x in message.location}
    found: dict[tuple[Any, ...], list[int]] = {}
    for sample in message.sample:
        stack = tuple(
            (
                text[functions[line.function_id].name],
                text[functions[line.function_id].filename],
                line.line,
                functions[line.function_id].start_line,
            )
            for number in sample.location_id
            for line in locations[number].line
        )
        tags = tuple((text[x.key], text[x.str] if x.str else x.num) for x in sample.label)
        found[stack, tags] = list(sample.value)
    return found
