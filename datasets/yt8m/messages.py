"""TensorFlow's Example and SequenceExample as protobuf messages, without TensorFlow.

Source of the field numbers: tensorflow/core/example/feature.proto and example.proto (Apache-2.0). The messages live in
a descriptor pool of their own, so TensorFlow may be loaded in the same process.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow"


def new_example() -> Any:
    """An empty ``tensorflow.Example``: ``features.feature`` maps names to ``Feature``."""
    return _message("Example")()


def new_sequence_example() -> Any:
    """An empty ``tensorflow.SequenceExample``: ``context.feature`` and ``feature_lists.feature_list`` map names."""
    return _message("SequenceExample")()


@cache
def _message(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", _Field.TYPE_BYTES),
        ("FloatList", _Field.TYPE_FLOAT),
        ("Int64List", _Field.TYPE_INT64),
    ):
        _add_field(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        message = "".join(part.capitalize() for part in name.split("_"))
        _add_field(feature, name, number, message).oneof_index = 0
    _add_map(file.message_type.add(name="Features"), "feature", "Feature")
    _add_field(file.message_type.add(name="FeatureList"), "feature", 1, "Feature", repeated=True)
    _add_map(file.message_type.add(name="FeatureLists"), "feature_list", "FeatureList")
    _add_field(file.message_type.add(name="Example"), "features", 1, "Features")
    sequence = file.message_type.add(name="SequenceExample")
    _add_field(sequence, "context", 1, "Features")
    _add_field(sequence, "feature_lists", 2, "FeatureLists")
    return file


def _add_field(message: Any, name: str, number: int, kind: int | str, repeated: bool = False) -> Any:
    """A field of a scalar type, or of the message called ``kind``."""
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if isinstance(kind, int):
        return message.field.add(name=name, number=number, type=kind, label=label)
    type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
    return message.field.add(name=name, number=number, type=_Field.TYPE_MESSAGE, type_name=type_name, label=label)


def _add_map(message: Any, name: str, value: str) -> None:
    """A ``map<string, value>`` of number 1, which on the wire is a repeated entry of key and value."""
    entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _add_field(entry, "key", 1, _Field.TYPE_STRING)
    _add_field(entry, "value", 2, value)
    _add_field(message, name, 1, f".{_PACKAGE}.{message.name}.{entry_name}", repeated=True)
