"""A stand-in for grpcurl: the same arguments, carried out by the generated code.

It parses the JSON strictly, so a field that the contract does not have is an error, and prints
the answer as JSON. Known are `[-plaintext] [-d JSON] ADDRESS METHOD` and `ADDRESS list`.
"""

from __future__ import annotations

import argparse
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bursar_client.pb import budget_authority_service_pb2, usage_service_pb2

DEADLINE_S = 10.0
EXIT_CODE_BASE = 64

# Imported for what they register in the pool of descriptors.
CONTRACTS = (budget_authority_service_pb2, usage_service_pb2, health_pb2)


def list_services(channel: grpc.Channel) -> str:
    """Return the names of the services that a server reflects."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([asked]), timeout=DEADLINE_S)
    return "\n".join(sorted(each.name for each in answer.list_services_response.service))


def call(channel: grpc.Channel, method: str, request_json: str) -> str:
    """Make one call and return its answer as JSON."""
    service, _, name = method.rpartition("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request = json_format.Parse(request_json, message_factory.GetMessageClass(found.input_type)())
    make_call = channel.unary_unary(
        f"/{service}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
    )
    answer = make_call(request, timeout=DEADLINE_S)
    return json_format.MessageToJson(answer, preserving_proto_field_name=True)


def main() -> int:
    """Make the call of the command line."""
    parser = argparse.ArgumentParser(prog="grpcurl")
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-d", dest="data", default="{}")
    parser.add_argument("address")
    parser.add_argument("method")
    arguments = parser.parse_args()
    with grpc.insecure_channel(arguments.address) as channel:
        try:
            if arguments.method == "list":
                answer = list_services(channel)
            else:
                answer = call(channel, arguments.method, arguments.data)
        except grpc.RpcError as error:
            sys.stderr.write(f"{error.code().name}: {error.details()}\n")
            return EXIT_CODE_BASE + int(error.code().value[0])
    sys.stdout.write(answer + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
