#include "byte_file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace scan {

ByteFile::ByteFile(const std::string &path, Exit blame)
    // Without O_NONBLOCK, opening a pipe would wait for a writer that may never come.
    : path_(path), blame_(blame), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK))
{
    if (descriptor_ < 0) {
        throw refusal(std::string("cannot be opened (") + std::strerror(errno) + ").");
    }
    struct stat about = {};
    if (fstat(descriptor_, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(descriptor_);
        throw refusal("is no file.");
    }
    size_ = static_cast<std::uint64_t>(about.st_size);
}

ByteFile::~ByteFile() { close(descriptor_); }

void ByteFile::read(std::uint64_t offset, std::uint8_t *into, std::size_t count) const
{
    if (offset > size_ || count > size_ - offset) {
        throw refusal("is cut short.");
    }
    while (count > 0) {
        const ssize_t got = pread(descriptor_, into, count, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            throw refusal("cannot be read, or changes while it is read.");
        }
        into += got;
        offset += static_cast<std::uint64_t>(got);
        count -= static_cast<std::size_t>(got);
    }
}

Bytes ByteFile::read(std::uint64_t offset, std::size_t count) const
{
    // Checked first: a length from a hostile file must not decide what is allocated.
    if (offset > size_ || count > size_ - offset) {
        throw refusal("is cut short.");
    }
    Bytes content(count);
    read(offset, content.data(), count);
    return content;
}

} // namespace scan
