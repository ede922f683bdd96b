// The golden samples of a bundle: raw frames with all that must come of them.
#ifndef SCAN_GOLDEN_HPP
#define SCAN_GOLDEN_HPP

#include "documents.hpp"
#include "frame.hpp"

#include <cstdint>
#include <map>
#include <string>

namespace scan {

// One sample, with what the program's input and output must be.
struct GoldenSample {
    Frame frame;
    Bytes input;
    Bytes output;
    std::uint32_t decision = 0;
};

// A file of the safetensors format: a length, a header of JSON, and arrays without gaps.
class GoldenFile {
public:
    // Reads the header; refuses arrays that are not where they say, as a bad bundle.
    explicit GoldenFile(Bytes content);

    std::size_t count() const noexcept { return count_; }

    GoldenSample sample(std::size_t index) const;

    // The outputs of all samples, one after another.
    Bytes outputs() const;

private:
    const StoredArray &array(const std::string &name) const;
    std::int64_t whole_number(const std::string &name, std::size_t index) const;
    Bytes row(const std::string &name, std::size_t index) const;
    Bytes all_of(const StoredArray &array) const;
    Bytes bytes_from(std::uint64_t at, std::uint64_t count) const;

    Bytes content_;
    std::map<std::string, StoredArray> arrays_; // counted from the file's begin
    std::size_t count_ = 0;
};

} // namespace scan

#endif
