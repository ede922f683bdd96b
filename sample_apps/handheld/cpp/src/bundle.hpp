// Opens a bundle, and believes nothing that its manifest does not vouch for.
#ifndef SCAN_BUNDLE_HPP
#define SCAN_BUNDLE_HPP

#include "byte_file.hpp"

#include <string>

namespace scan {

// What of a bundle this program uses, verified.
struct Bundle {
    std::string target;
    std::string model_sha256;
    std::string contract_sha256;
    Bytes model;
    Bytes golden; // golden.safetensors
};

// Refuses an archive that is damaged, was changed, or was made for another program: another
// format, runtime or precision, or another contract than the one that is compiled in.
Bundle open_bundle(const std::string &path);

} // namespace scan

#endif
