// The JSON documents of a bundle, as values. They are taken for hostile: what is not there, or
// of another type, is refused as a bad bundle.
#ifndef SCAN_DOCUMENTS_HPP
#define SCAN_DOCUMENTS_HPP

#include "byte_file.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace scan {

struct ListedFile {
    std::string sha256;
    std::uint64_t size_bytes;
};

// manifest.json: what the archive is, and every other file of it.
struct Manifest {
    std::string target;
    std::string runtime;
    std::string precision;
    std::string model; // which of the files is the program
    std::map<std::string, ListedFile> files;
};

// Refuses another format than `known_format` before anything else is looked at.
Manifest read_manifest(const Bytes &json, std::int64_t known_format);

// The "format_version" of another document, for messages.
std::int64_t format_version_of(const Bytes &json, const std::string &name);

// An array of a file of the safetensors format; its place is counted from the header's end.
struct StoredArray {
    std::string type;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin;
    std::uint64_t end;
};

// The header of such a file, by name of the array.
std::map<std::string, StoredArray> read_array_header(const std::uint8_t *json, std::size_t bytes);

} // namespace scan

#endif
