// What the program says: one JSON object a line on standard output.
#ifndef SCAN_JSON_LINE_HPP
#define SCAN_JSON_LINE_HPP

#include "byte_file.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace scan {

// Collects the keys of one line; `print` writes it whole.
class JsonLine {
public:
    explicit JsonLine(std::string_view event) { add("event", event); }

    JsonLine &add(std::string_view key, std::string_view text);
    JsonLine &add(std::string_view key, const char *text) { return add(key, std::string_view(text)); }
    JsonLine &add(std::string_view key, bool value) { return add_raw(key, value ? "true" : "false"); }
    JsonLine &add(std::string_view key, std::uint64_t value);
    JsonLine &add(std::string_view key, double value);
    JsonLine &add(std::string_view key, const std::vector<std::uint64_t> &values);
    JsonLine &add_null(std::string_view key) { return add_raw(key, "null"); }
    // `json` is JSON already.
    JsonLine &add_raw(std::string_view key, std::string_view json);

    // All keys of another line or part.
    JsonLine &add_keys(const JsonLine &other);

    // As an object, to be put into another one.
    std::string object() const { return "{" + text_ + "}"; }

    // Throws where standard output takes no more: lines that are lost must not look like success.
    void print() const;

    // An object that is no line of its own.
    static JsonLine part() { return JsonLine(); }

private:
    JsonLine() = default;

    std::string text_;
};

std::string json_array(const std::vector<std::string> &json);
std::string base64(const Bytes &bytes);

} // namespace scan

#endif
