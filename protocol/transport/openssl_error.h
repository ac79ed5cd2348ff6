#pragma once

#include <string>

namespace rivulet {

/// The reason of the oldest error in this thread's OpenSSL queue, such as "tlsv13 alert certificate
/// required"; empties the queue. Never empty.
std::string take_openssl_reason();

}  // namespace rivulet
