#include "digest.hpp"

#include <cstdint>
#include <sha2.h>

namespace scan {

std::string sha256(const void *data, std::size_t count)
{
    SHA2_CTX context;
    SHA256Init(&context);
    SHA256Update(&context, static_cast<const std::uint8_t *>(data), count);
    std::uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256Final(digest, &context);
    static const char *const digits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : digest) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

} // namespace scan
