#include "bundle.hpp"

#include "archive.hpp"
#include "digest.hpp"
#include "documents.hpp"
#include "scan_contract.hpp"

namespace scan {
namespace {

constexpr std::uint64_t most_json_bytes = std::uint64_t{16} << 20;
constexpr std::uint64_t most_file_bytes = std::uint64_t{1} << 30;
constexpr const char *manifest_name = "manifest.json";
constexpr const char *contract_name = "contract.json";
constexpr const char *golden_name = "golden.safetensors";

struct Verified {
    Bytes content;
    std::string sha256;
};

void require_equal(
    const Archive &archive, const char *what, const std::string &stated, std::string_view built_for)
{
    if (stated != built_for) {
        throw archive.refusal(
            std::string("its ") + what + " is " + stated + ", and this program is built for "
            + std::string(built_for) + ". Build the program for this bundle.");
    }
}

void require_listed(const Archive &archive, const Manifest &manifest)
{
    for (const std::string &name : archive.names()) {
        if (name != manifest_name && manifest.files.count(name) == 0) {
            throw archive.refusal(name + " is not in the manifest.");
        }
    }
}

Verified verified(const Archive &archive, const Manifest &manifest, const std::string &name)
{
    const auto listed = manifest.files.find(name);
    if (listed == manifest.files.end()) {
        throw archive.refusal(name + " is missing.");
    }
    Verified file;
    const bool same_size = archive.size_bytes(name) == listed->second.size_bytes;
    if (same_size) {
        file.content = archive.read(name, most_file_bytes);
        file.sha256 = sha256(file.content.data(), file.content.size());
    }
    if (!same_size || file.sha256 != listed->second.sha256) {
        throw archive.refusal(name + " is not the file that the manifest describes.");
    }
    return file;
}

void require_contract(const Archive &archive, const Verified &contract)
{
    if (contract.sha256 == scan_contract::contract_sha256) {
        return;
    }
    const std::int64_t format = format_version_of(contract.content, contract_name);
    if (format != scan_contract::format_version) {
        throw archive.refusal(
            std::string(contract_name) + " is of format " + std::to_string(format)
            + ", and this program knows " + std::to_string(scan_contract::format_version) + ".");
    }
    throw archive.refusal(
        std::string(contract_name) + " is not the contract that this program is built for. "
        "Build the program for this bundle.");
}

} // namespace

Bundle open_bundle(const std::string &path)
{
    const Archive archive(path);
    const Manifest manifest
        = read_manifest(archive.read(manifest_name, most_json_bytes), scan_build::bundle_format);
    require_listed(archive, manifest);
    require_equal(archive, "runtime", manifest.runtime, scan_build::runtime);
    require_equal(archive, "precision", manifest.precision, scan_build::precision);
    Verified contract = verified(archive, manifest, contract_name);
    require_contract(archive, contract);
    Verified model = verified(archive, manifest, manifest.model);
    Verified golden = verified(archive, manifest, golden_name);
    return {
        manifest.target, std::move(model.sha256), std::move(contract.sha256),
        std::move(model.content), std::move(golden.content),
    };
}

} // namespace scan
