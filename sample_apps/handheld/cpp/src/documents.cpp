// The only file that includes nlohmann/json.hpp, which takes long to compile.
#include "documents.hpp"

#include <nlohmann/json.hpp>

namespace scan {
namespace {

using Json = nlohmann::json;

constexpr const char *manifest_name = "manifest.json";
constexpr const char *golden_name = "golden.safetensors";

Refusal refusal(const std::string &name, const std::string &problem)
{
    return Refusal(Exit::bad_bundle, name, problem);
}

// Runs code that reads values out of a document; what is not as expected is refused.
template <typename Read> auto reading(const std::string &name, Read read)
{
    try {
        return read();
    } catch (const Json::exception &) {
        throw refusal(name, "does not say what a bundle's does.");
    }
}

Json parsed(const std::string &name, const std::uint8_t *json, std::size_t bytes)
{
    Json document = Json::parse(json, json + bytes, nullptr, false);
    if (!document.is_object()) {
        throw refusal(name, "is not the JSON object that a bundle has.");
    }
    return document;
}

template <typename Value> Value value_at(const Json &document, const char *key)
{
    const Json &value = document.at(key);
    // Conversions between numbers, and of true to 1, are not wanted.
    const bool fits = std::is_same_v<Value, std::string> ? value.is_string()
        : std::is_unsigned_v<Value>                      ? value.is_number_unsigned()
                                                         : value.is_number_integer();
    return fits ? value.get<Value>() : throw Json::type_error::create(302, key, &value);
}

} // namespace

Manifest read_manifest(const Bytes &json, std::int64_t known_format)
{
    const Json document = parsed(manifest_name, json.data(), json.size());
    return reading(manifest_name, [&] {
        const auto format = value_at<std::int64_t>(document, "format_version");
        if (format != known_format) {
            throw refusal(
                manifest_name,
                "is of format " + std::to_string(format) + ", and this program reads "
                    + std::to_string(known_format) + ".");
        }
        Manifest manifest = {
            value_at<std::string>(document, "target"),
            value_at<std::string>(document, "runtime"),
            value_at<std::string>(document, "precision"),
            value_at<std::string>(document, "model"),
            {},
        };
        for (const Json &file : document.at("files")) {
            manifest.files[value_at<std::string>(file, "name")] = {
                value_at<std::string>(file, "sha256"),
                value_at<std::uint64_t>(file, "size_bytes"),
            };
        }
        return manifest;
    });
}

std::int64_t format_version_of(const Bytes &json, const std::string &name)
{
    const Json document = parsed(name, json.data(), json.size());
    return reading(name, [&] { return value_at<std::int64_t>(document, "format_version"); });
}

std::map<std::string, StoredArray> read_array_header(const std::uint8_t *json, std::size_t bytes)
{
    const Json document = parsed(golden_name, json, bytes);
    return reading(golden_name, [&] {
        std::map<std::string, StoredArray> arrays;
        for (const auto &[name, said] : document.items()) {
            if (name == "__metadata__") {
                continue;
            }
            const Json &place = said.at("data_offsets");
            StoredArray array = {
                value_at<std::string>(said, "dtype"), {},
                place.at(0).get<std::uint64_t>(), place.at(1).get<std::uint64_t>(),
            };
            for (const Json &side : said.at("shape")) {
                array.shape.push_back(side.get<std::uint64_t>());
            }
            arrays.emplace(name, std::move(array));
        }
        return arrays;
    });
}

} // namespace scan
