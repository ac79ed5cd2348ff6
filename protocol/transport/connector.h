#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <memory>

#include "protocol/endpoint.h"
#include "protocol/transport/frame_stream.h"
#include "protocol/transport/limits.h"
#include "protocol/transport/tls_context.h"

namespace rivulet {

/// Connects to `endpoint` and does the TLS handshake. A name is looked up, and its addresses are tried in
/// turn, each with its share of the time that is left. Who answered is for the caller to judge: peer_key().
/// @param executor of the new stream: a strand or a single thread; also the calling task's.
/// @param tls stays valid until the end.
/// @return not_found if the name has no address; disconnected if nobody answers there; refused by TLS;
/// timeout at
///   `deadline`; cancelled. The detail names the endpoint.
asio::awaitable<Result<std::unique_ptr<FrameStream>>> connect(asio::any_io_executor executor,
                                                              const Endpoint& endpoint, const TlsContext& tls,
                                                              Deadline deadline, TransportLimits limits = {});

}  // namespace rivulet
