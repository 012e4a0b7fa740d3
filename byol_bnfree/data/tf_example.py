"""tf.train.Example, the record of tensorflow-datasets, without TensorFlow.

The message is described here, in a pool of its own, as in tensorflow/core/example.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_LISTS = {
    "BytesList": _FIELD.TYPE_BYTES,
    "FloatList": _FIELD.TYPE_FLOAT,
    "Int64List": _FIELD.TYPE_INT64,
}
_PACKAGE = "byol_bnfree.tf_example"


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """A record of features that each have one value."""
    example = Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def decode_example(record: bytes) -> Any:
    """Features by name; each has bytes_list, float_list and int64_list."""
    return Example.FromString(record).features.feature


def _message_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="byol_bnfree/tf_example.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, kind in _LISTS.items():
        field = file.message_type.add(name=name).field.add(name="value", number=1)
        field.type, field.label = kind, _FIELD.LABEL_REPEATED
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        kind = "".join(word.capitalize() for word in name.split("_"))
        _add(feature, name, number, kind).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1)
    key.type, key.label = _FIELD.TYPE_STRING, _FIELD.LABEL_OPTIONAL
    _add(entry, "value", 2, "Feature")
    field = _add(features, "feature", 1, "Features.FeatureEntry")
    field.label = _FIELD.LABEL_REPEATED
    _add(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{_PACKAGE}.Example")
    return message_factory.GetMessageClass(found)


def _add(message: Any, name: str, number: int, kind: str) -> Any:
    field = message.field.add(name=name, number=number)
    field.type, field.label = _FIELD.TYPE_MESSAGE, _FIELD.LABEL_OPTIONAL
    field.type_name = f".{_PACKAGE}.{kind}"
    return field


Example = _message_type()
