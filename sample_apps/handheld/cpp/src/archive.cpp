#include "archive.hpp"

#include <algorithm>
#include <cctype>
#include <zlib.h>

namespace scan {
namespace {

constexpr std::size_t max_files = 64;
constexpr std::uint64_t max_total_bytes = std::uint64_t{2} << 30;
constexpr std::size_t max_name_bytes = 100;
constexpr std::size_t chunk_bytes = 64 * 1024;
// Deflate cannot do better, so an entry that claims more is not believed before it is unpacked.
constexpr std::uint64_t most_deflated = 1032;

// Sizes, marks and places of the zip format: APPNOTE.TXT 4.3.7, 4.3.12 and 4.3.16.
constexpr std::size_t local_bytes = 30;
constexpr std::size_t central_bytes = 46;
constexpr std::size_t end_bytes = 22;
constexpr std::uint32_t local_mark = 0x04034b50;
constexpr std::uint32_t central_mark = 0x02014b50;
constexpr std::uint32_t end_mark = 0x06054b50;
constexpr std::uint16_t encrypted = 1;
constexpr std::uint16_t stored = 0;
constexpr std::uint16_t deflated = 8;
constexpr std::uint32_t file_type = 0170000;
constexpr std::uint32_t plain_file = 0100000;

bool is_plain_name(const std::string &name)
{
    const auto plain = [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
    };
    return !name.empty() && name.size() <= max_name_bytes
        && std::isalnum(static_cast<unsigned char>(name[0])) != 0
        && std::all_of(name.begin(), name.end(), plain);
}

} // namespace

Archive::Archive(const std::string &path) : file_(path, Exit::bad_bundle)
{
    if (file_.size() < end_bytes) {
        throw refusal("is no bundle: it is too small for a zip archive.");
    }
    const std::uint64_t end_at = file_.size() - end_bytes;
    const Bytes end = file_.read(end_at, end_bytes);
    if (little_u32(end.data()) != end_mark || little_u16(end.data() + 20) != 0) {
        throw refusal("is no bundle: it does not end as a zip archive without a comment.");
    }
    const std::size_t count = little_u16(end.data() + 10);
    const std::uint32_t size_bytes = little_u32(end.data() + 12);
    const std::uint32_t at = little_u32(end.data() + 16);
    // The list of files ends where the last record begins; other numbers are no plain archive.
    if (little_u32(end.data() + 4) != 0 || little_u16(end.data() + 8) != count
        || std::uint64_t{at} + size_bytes != end_at) {
        throw refusal("is no bundle: its list of files is not where the archive says.");
    }
    if (count > max_files) {
        throw refusal("holds " + std::to_string(count) + " files; a bundle has at most 64.");
    }
    read_directory(at, size_bytes, count);
}

void Archive::read_directory(std::uint64_t at, std::size_t size_bytes, std::size_t count)
{
    const Bytes directory = file_.read(at, size_bytes);
    std::size_t place = 0;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < count; ++i) {
        place = read_entry(directory, place, at);
    }
    for (const auto &[name, entry] : entries_) {
        total += entry.size_bytes;
    }
    if (place != directory.size()) {
        throw refusal("is no bundle: its list of files holds something else.");
    }
    if (total > max_total_bytes) {
        throw refusal("unpacks to more than 2 GiB.");
    }
}

// Returns where the next entry begins.
std::size_t Archive::read_entry(
    const Bytes &directory, std::size_t at, std::uint64_t directory_at)
{
    if (directory.size() - at < central_bytes
        || little_u32(directory.data() + at) != central_mark) {
        throw refusal("is no bundle: its list of files is damaged.");
    }
    const std::uint8_t *head = directory.data() + at;
    const std::size_t name_bytes = little_u16(head + 28);
    const std::size_t next
        = at + central_bytes + name_bytes + little_u16(head + 30) + little_u16(head + 32);
    if (next > directory.size()) {
        throw refusal("is no bundle: its list of files is damaged.");
    }
    const std::string name(head + central_bytes, head + central_bytes + name_bytes);
    if (!is_plain_name(name)) {
        throw refusal("holds a file whose name is not a plain one.");
    }
    const std::uint32_t kind = (little_u32(head + 38) >> 16) & file_type;
    if (kind != 0 && kind != plain_file) {
        throw refusal(name + " is a link or a device, not a file.");
    }
    const Entry entry = {
        little_u16(head + 10), little_u32(head + 16), little_u32(head + 20),
        little_u32(head + 24), little_u32(head + 42),
    };
    if ((little_u16(head + 8) & encrypted) != 0
        || (entry.method != stored && entry.method != deflated)) {
        throw refusal(name + " is encrypted, or compressed in an unusual way.");
    }
    if (entry.header_at >= directory_at || entry.packed_bytes > directory_at) {
        throw refusal(name + " is not where the archive says.");
    }
    if (entry.size_bytes / most_deflated > entry.packed_bytes) {
        throw refusal(name + " claims to unpack to more than it can.");
    }
    if (!entries_.emplace(name, entry).second) {
        throw refusal(name + " is there twice.");
    }
    return next;
}

std::vector<std::string> Archive::names() const
{
    std::vector<std::string> names;
    for (const auto &[name, entry] : entries_) {
        names.push_back(name);
    }
    return names;
}

std::uint64_t Archive::size_bytes(const std::string &name) const { return entry(name).size_bytes; }

const Archive::Entry &Archive::entry(const std::string &name) const
{
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
        throw refusal(name + " is missing.");
    }
    return found->second;
}

std::uint64_t Archive::content_at(const std::string &name, const Entry &entry) const
{
    const Bytes local = file_.read(entry.header_at, local_bytes);
    if (little_u32(local.data()) != local_mark || little_u16(local.data() + 8) != entry.method) {
        throw refusal(name + " is not where the archive says.");
    }
    return std::uint64_t{entry.header_at} + local_bytes + little_u16(local.data() + 26)
        + little_u16(local.data() + 28);
}

Bytes Archive::read(const std::string &name, std::uint64_t most) const
{
    const Entry &wanted = entry(name);
    if (wanted.size_bytes > most) {
        throw refusal(name + " is larger than " + std::to_string(most) + " bytes.");
    }
    const std::uint64_t at = content_at(name, wanted);
    Bytes content;
    if (wanted.method == deflated) {
        content = inflated(name, wanted, at);
    } else if (wanted.packed_bytes == wanted.size_bytes) {
        content = file_.read(at, wanted.size_bytes);
    }
    const uLong crc = crc32_z(0, content.data(), content.size());
    if (content.size() != wanted.size_bytes || crc != wanted.crc) {
        throw refusal(name + " is damaged.");
    }
    return content;
}

// Unpacks as many bytes as were announced, and no more: a bomb ends there.
Bytes Archive::inflated(const std::string &name, const Entry &entry, std::uint64_t at) const
{
    Bytes content(entry.size_bytes);
    z_stream stream = {};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) {
        throw std::bad_alloc();
    }
    // Owns the stream's memory, also where reading the file throws.
    struct Ender {
        z_stream *stream;
        ~Ender() { inflateEnd(stream); }
    } const ender = {&stream};
    stream.next_out = content.data();
    stream.avail_out = static_cast<uInt>(content.size());
    Bytes chunk;
    int status = Z_OK;
    std::uint64_t left = entry.packed_bytes;
    while (status == Z_OK && left > 0) {
        chunk = file_.read(at, static_cast<std::size_t>(std::min<std::uint64_t>(left, chunk_bytes)));
        at += chunk.size();
        left -= chunk.size();
        stream.next_in = chunk.data();
        stream.avail_in = static_cast<uInt>(chunk.size());
        status = inflate(&stream, Z_NO_FLUSH);
    }
    if (status != Z_STREAM_END || stream.avail_out != 0 || stream.avail_in != 0 || left != 0) {
        throw refusal(name + " is damaged.");
    }
    return content;
}

} // namespace scan
