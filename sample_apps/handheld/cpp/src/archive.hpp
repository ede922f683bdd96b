// Reads a flat zip archive that may come from anywhere.
#ifndef SCAN_ARCHIVE_HPP
#define SCAN_ARCHIVE_HPP

#include "byte_file.hpp"

#include <map>
#include <string>

namespace scan {

// The archive's own list of what it holds; nothing is unpacked until it is asked for.
//
// A bundle is a plain archive, so whatever a bundle never has is refused: paths in names,
// names twice, links, encryption, other methods than deflate, 64-bit sizes, comments, bytes
// that belong to no file.
class Archive {
public:
    explicit Archive(const std::string &path);

    bool has(const std::string &name) const { return entries_.count(name) > 0; }
    std::vector<std::string> names() const;
    std::uint64_t size_bytes(const std::string &name) const;

    // Unpacks one file, its checksum included; refuses more than `most` bytes.
    Bytes read(const std::string &name, std::uint64_t most) const;

    Refusal refusal(const std::string &problem) const { return file_.refusal(problem); }

private:
    struct Entry {
        std::uint16_t method;
        std::uint32_t crc;
        std::uint32_t packed_bytes;
        std::uint32_t size_bytes;
        std::uint32_t header_at;
    };

    void read_directory(std::uint64_t at, std::size_t size_bytes, std::size_t count);
    std::size_t read_entry(const Bytes &directory, std::size_t at, std::uint64_t directory_at);
    const Entry &entry(const std::string &name) const;
    std::uint64_t content_at(const std::string &name, const Entry &entry) const;
    Bytes inflated(const std::string &name, const Entry &entry, std::uint64_t at) const;

    ByteFile file_;
    std::map<std::string, Entry> entries_;
};

} // namespace scan

#endif
