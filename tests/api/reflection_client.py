"""gRPC API client in another language: Google's own library for Python, which learns every message from the server.

Calls the API and prints the results as one JSON object, which `reflection_client.rs` checks. Uses no copy of a `.proto` file: all
types come from the reflection service, or from ProtoFileDescriptor. See main().

Usage: reflection_client.py HOST:PORT (with the packages of reflection_client.txt).
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

MANAGER = "ligato.generic.ManagerService"
META = "ligato.generic.MetaService"
INTERFACE = "ligato.linux.interfaces.Interface"
MODEL = "linux.interfaces.interface"
# Time limit for a response, in seconds. A call that hangs ends with DEADLINE_EXCEEDED.
PATIENCE = 30


class Client:
    """Calls methods by name, with the types that the server describes."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def call(self, service, method, **fields):
        """Returns one response or a stream of responses, depending on the method."""
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(described.input_type)(**fields)
        answer = message_factory.GetMessageClass(described.output_type)
        kind = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=PATIENCE)

    def end_of_pair(self, name, peer):
        """Returns an update for SetConfig: one end of a veth pair, as an Any, with a label."""
        interface = self.message(INTERFACE)(name=name, type="VETH", enabled=True, host_if_name=name)
        interface.veth.peer_if_name = peer
        update = self.message("ligato.generic.UpdateItem")()
        update.item.data.any.type_url = f"models.ligato.io/{INTERFACE}"
        update.item.data.any.value = interface.SerializeToString()
        update.labels["end"] = name
        return update

    def removal(self, name):
        update = self.message("ligato.generic.UpdateItem")()
        update.item.id.model, update.item.id.name = MODEL, name
        return update


def states(stream, wanted):
    """Returns the states that a subscriber receives, up to the expected one."""
    heard = []
    for answer in stream:
        for notification in answer.notifications:
            heard.append(notification.status.status)
            if heard[-1] == wanted:
                return heard
    raise AssertionError(f"the stream ended before {wanted}: {heard}")


def models(client):
    """Returns the name, message and file of each model that the agent supports."""
    answer = client.call(META, "KnownModels", **{"class": "config"})
    found = []
    for model in answer.known_models:
        options = {option.key: list(option.values) for option in model.options}
        spec = model.spec
        found.append({"name": f"{spec.module}.{spec.type}", "message": model.proto_name, "file": options["protoFile"][0]})
    return found


def files(client, name):
    """Returns a file and all its imports from ProtoFileDescriptor, by name, in bytes."""
    answer = client.call(META, "ProtoFileDescriptor", full_proto_file_name=name)
    found = [answer.file_descriptor, *answer.file_import_descriptors.file]
    return {file.name: file.SerializeToString(deterministic=True) for file in found}


def in_order(found):
    """Sorts files after those that they import."""
    done = {}

    def add(name):
        if name not in done:
            file = descriptor_pb2.FileDescriptorProto.FromString(found[name])
            for dependency in file.dependency:
                add(dependency)
            done[name] = file

    for name in found:
        add(name)
    return list(done.values())


def hint_of(client):
    """Returns the custom option of a field, read only with the answer of ProtoFileDescriptor."""
    pool = descriptor_pool.DescriptorPool()
    for file in in_order(files(client, "ligato/linux/interfaces/interface.proto")):
        pool.Add(file)
    extension = pool.FindExtensionByName("ligato.ligato_options")
    # The options belong to a pool that does not know the extension; read them again with the pool that does.
    known = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FieldOptions"))
    field = pool.FindMessageTypeByName(INTERFACE).fields_by_name["ip_addresses"]
    message_factory.GetMessageClass(extension.containing_type)
    options = known.FromString(field.GetOptions().SerializeToString())
    hint = options.Extensions[extension]
    return extension.message_type.fields_by_name["type"].enum_type.values_by_number[hint.type].name


def differing(client, known):
    """Returns the files that ProtoFileDescriptor and reflection describe differently."""
    differ = set()
    for model in known:
        for name, file in files(client, model["file"]).items():
            reflected = client.database.FindFileByName(name).SerializeToString(deterministic=True)
            if descriptor_pb2.FileDescriptorProto.FromString(file).SerializeToString(deterministic=True) != reflected:
                differ.add(name)
    return sorted(differ)


def main(address):
    client = Client(address)
    known = models(client)
    pair = [client.end_of_pair("one", "two"), client.end_of_pair("two", "one")]
    results = client.call(MANAGER, "SetConfig", updates=pair).results
    one = client.message("ligato.generic.Subscription")(id={"model": MODEL, "name": "one"})
    follower = client.call(MANAGER, "Subscribe", subscriptions=[one])
    configured = states(follower, "CONFIGURED")
    items = client.call(MANAGER, "GetConfig", labels={"end": "one"}).items
    got = client.message(INTERFACE).FromString(items[0].item.data.any.value)
    client.call(MANAGER, "SetConfig", updates=[client.removal("one"), client.removal("two")])
    removed = states(follower, "REMOVED")
    follower.cancel()
    try:
        client.call(MANAGER, "SetConfig", updates=[client.message("ligato.generic.UpdateItem")()])
        refused = "accepted"
    except grpc.RpcError as error:
        refused = error.code().name
    print(json.dumps({
        "services": sorted(client.database.get_services()),
        "models": known,
        "results": {result.key: result.status.status for result in results if result.key != "seqnum"},
        "configured": configured,
        "got": [len(items), items[0].status.status, dict(items[0].labels), got.name, got.veth.peer_if_name],
        "removed": removed,
        "left": len(client.call(MANAGER, "GetConfig").items),
        "refused": refused,
        "hint": hint_of(client),
        "differing": differing(client, known),
    }))


if __name__ == "__main__":
    main(sys.argv[1])
