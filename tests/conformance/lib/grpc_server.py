"""A gRPC server with the four kinds of calls and the health service. Arguments: name, port, port with TLS, folder."""
import sys
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NAME, PORT, SECURE, FOLDER = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
HEALTH = health.HealthServicer()


def unary(request, context):
    """Answers with what it got, and tells who it is and what metadata came."""
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-server", NAME),))
    context.set_trailing_metadata((("x-trailing", "yes"), ("x-blob-bin", b"\x00\xff"), ("x-echo", metadata.get("x-echo", ""))))
    return request


def fails(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % sure, grüße")


def slow(request, context):
    for _ in range(100):
        if not context.is_active():
            with open(f"{FOLDER}/cancelled", "a") as file:
                file.write(f"{context.time_remaining()}\n")
            break
        time.sleep(0.05)
    return request


def left(request, context):
    """How much time the caller gives, as the server sees it."""
    remaining = context.time_remaining()
    return b"none" if remaining is None or remaining > 1e6 else str(remaining).encode()


def stream_out(request, context):
    for index in range(int(request)):
        yield b"%d" % index * 100


def stream_in(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    """One answer at once for each request, so that nothing may be held back."""
    for request in requests:
        yield request.upper()


def stop_serving(request, context):
    HEALTH.set("conformance.Plain", health_pb2.HealthCheckResponse.NOT_SERVING)
    return NAME.encode()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), compression=grpc.Compression.Gzip)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fails": grpc.unary_unary_rpc_method_handler(fails),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Left": grpc.unary_unary_rpc_method_handler(left),
        "Out": grpc.unary_stream_rpc_method_handler(stream_out),
        "In": grpc.stream_unary_rpc_method_handler(stream_in),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "StopServing": grpc.unary_unary_rpc_method_handler(stop_serving),
    }
    for service in ("conformance.Plain", "conformance.Over"):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(HEALTH, server)
    for service in ("", "conformance.Plain", "conformance.Over"):
        HEALTH.set(service, health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    key, certificate = (open(f"{FOLDER}/tls.{end}", "rb").read() for end in ("key", "pem"))
    server.add_secure_port(f"127.0.0.1:{SECURE}", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    server.wait_for_termination()


main()
