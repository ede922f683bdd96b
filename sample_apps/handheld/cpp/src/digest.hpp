// SHA-256, as manifests have it.
#ifndef SCAN_DIGEST_HPP
#define SCAN_DIGEST_HPP

#include <cstddef>
#include <string>

namespace scan {

// The digest of `count` bytes, in lower-case hexadecimal.
std::string sha256(const void *data, std::size_t count);

} // namespace scan

#endif
