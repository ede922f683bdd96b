// A file that is read at places, and never past its end.
#ifndef SCAN_BYTE_FILE_HPP
#define SCAN_BYTE_FILE_HPP

#include "refusal.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace scan {

using Bytes = std::vector<std::uint8_t>;

// The bytes of little-endian numbers; the caller sees to it that they are there.
inline std::uint16_t little_u16(const std::uint8_t *at)
{
    return static_cast<std::uint16_t>(at[0] | at[1] << 8);
}
inline std::uint32_t little_u32(const std::uint8_t *at)
{
    return little_u16(at) | static_cast<std::uint32_t>(little_u16(at + 2)) << 16;
}
inline std::uint64_t little_u64(const std::uint8_t *at)
{
    return little_u32(at) | static_cast<std::uint64_t>(little_u32(at + 4)) << 32;
}

class ByteFile {
public:
    // `blame` is the exit code of refusals: a bundle and a frame are answered for differently.
    ByteFile(const std::string &path, Exit blame);
    ~ByteFile();
    ByteFile(const ByteFile &) = delete;
    ByteFile &operator=(const ByteFile &) = delete;

    const std::string &path() const noexcept { return path_; }
    std::uint64_t size() const noexcept { return size_; }

    // Reads `count` bytes from `offset` on; refuses where the file is shorter.
    void read(std::uint64_t offset, std::uint8_t *into, std::size_t count) const;
    Bytes read(std::uint64_t offset, std::size_t count) const;

    // The refusal of this file, to be thrown.
    Refusal refusal(const std::string &problem) const { return Refusal(blame_, path_, problem); }

private:
    std::string path_;
    Exit blame_;
    int descriptor_;
    std::uint64_t size_ = 0;
};

} // namespace scan

#endif
